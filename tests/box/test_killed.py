"""Unpacking is killed at each single step on the way: what is there afterwards is the old, or the new, whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flatpack_build.box.packing import PayloadEntry
from tests.box.archives import GOOD, archive, file, signed
from tests.box.samples import KeyPair, make_box

# A process of its own: it forks for each step, which no process with threads should. Python tells an audit hook about
# each file it opens, makes, renames or removes just before it does; there the child kills itself.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from flatpack_build.box.extract import extract_verified
from flatpack_build.box.keys import load_public_key
from flatpack_build.errors import BoxError

work, good, new, hostile, platform = Path(sys.argv[1]), *sys.argv[2:6]
keys = [load_public_key(Path(sys.argv[6]))]
target = work / "out"
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.scandir", "ctypes.dlsym", "fcntl.flock")

def content():
    if not target.exists():
        return None
    return sorted((str(path.relative_to(target)), path.read_text()) for path in target.rglob("*") if path.is_file())

def unpack(box):
    extract_verified(Path(box), target, keys, replace=True, durable=False)

unpack(new); whole_new = content()
unpack(good); whole_old = content()
assert whole_new != whole_old
seen, step = {}, 0
sys.platform = platform  # on any but Linux two renames take the place of one swap
while True:
    step += 1
    pid = os.fork()
    if not pid:
        left = step
        def hook(event, arguments):
            global left
            if event in STEPS:
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        unpack(new)
        os._exit(0)
    finished = os.waitpid(pid, 0)[1] == 0
    found = content()
    what = "old" if found == whole_old else "new" if found == whole_new else "half" if found else "none"
    try:  # what comes next may fail: it cleans up all the same
        unpack(hostile)
    except BoxError:
        pass
    assert content() == (whole_old if found is None else found), (step, what)
    assert os.listdir(work) == ["out"], (step, os.listdir(work))
    seen.setdefault(what, []).append(step)
    if finished:
        break
    unpack(good)
print(json.dumps({what: len(steps) for what, steps in seen.items()}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="swaps folders as Linux does")
@pytest.mark.parametrize("platform", ["linux", "other"])
def test_a_kill_at_any_step(tmp_path: Path, key: KeyPair, platform: str) -> None:
    entries = [PayloadEntry("a", b"a"), PayloadEntry("sub/b", b"b", executable=True), PayloadEntry("empty", None)]
    good = make_box(tmp_path, key.private, entries, name="good.fpk")
    new = make_box(tmp_path, key.private, [*entries, PayloadEntry("sub/c", b"c" * 100_000)], name="new.fpk")
    hostile = signed(tmp_path / "hostile.fpk", archive([*GOOD, file("chat/../x")]), key.private)
    work = tmp_path / "work"
    work.mkdir()
    arguments: list[str | Path] = [sys.executable, "-c", SCRIPT, work, good, new, hostile, platform, key.public_file]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["old"] > 10 and seen["new"] >= 2, seen
    assert "half" not in seen
    assert seen.get("none", 0) == (0 if platform == "linux" else 1)
