"""The fuzzer itself: ``make fuzz``. Arguments are those of libFuzzer. Needs atheris, which has no wheels but for Linux."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["flatpack_build"]):
    from tests.fuzz.reader import Reader

FOLDER = "FLATPACK_FUZZ_FOLDER"
OPTIONS = ("-max_len=8192", "-timeout=10", "-rss_limit_mb=1024")


def fuzz(folder: Path) -> None:
    """Does not return: libFuzzer ends the process, and nothing is tidied up after it."""
    reader = Reader(Path(tempfile.mkdtemp(dir=folder)))
    # The first is what libFuzzer starts again when it merges.
    atheris.Setup([f"{sys.executable} -m tests.fuzz.fuzz_box", *OPTIONS, *sys.argv[1:]], reader.take)
    atheris.Fuzz()


def main() -> int:
    # In memory where there is such a place: each input writes files.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        command = [sys.executable, "-m", "tests.fuzz.fuzz_box", *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, FOLDER: folder}, check=False).returncode


if __name__ == "__main__":
    if FOLDER in os.environ:
        fuzz(Path(os.environ[FOLDER]))
    sys.exit(main())
