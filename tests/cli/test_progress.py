from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

SCRIPT = """
import sys
from flatpack_build import events
from flatpack_build.cli.progress import showing

with showing("checking chat.fpk", patience=float(sys.argv[1])):
    events.progress(1_000_000, 8_000_000)
    events.note("worth knowing")
"""


def _seen_on_a_terminal(patience: float) -> str:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(patience)],
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "120", "TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:  # how Linux says that nobody has the other end open
        pass
    os.close(ours)
    said, _ = process.communicate()
    assert (process.returncode, said) == (0, b"")
    return seen.decode()


@pytest.mark.parametrize(("patience", "shown"), [(0, True), (1000, False)])
def test_only_what_takes_long_is_drawn(patience: float, shown: bool) -> None:
    seen = _seen_on_a_terminal(patience)
    assert "worth knowing" in seen
    assert ("checking chat.fpk" in seen) is shown
