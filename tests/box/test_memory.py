"""How much memory it takes to verify and to unpack a large box: the same as for a small one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flatpack_build.box.container import sign_payload
from flatpack_build.box.packing import PayloadEntry
from tests.box.samples import KeyPair, make_payload

MOST = 80
"""MB."""
SIZE = 300 * 2**20

# Nothing but the readers in a process of its own. VmHWM is of this process alone: ru_maxrss begins with what the parent
# had when it started it.
UNPACK = """
import sys
from pathlib import Path
from flatpack_build.box import checked, container, extract, keys

box, out, public = map(Path, sys.argv[1:])
trusted = [keys.load_public_key(public)]
container.verify_box(box, trusted)
checked.verify_contents(box, trusted)
extract.extract_verified(box, out, trusted, allow_unlisted=True, durable=False)
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 // 1000_000)
"""


def _large_file(path: Path) -> None:
    """Noise, which zstd leaves as it is, and holes, of which it leaves nothing."""
    noise = os.urandom(20 * 2**20)
    with open(path, "wb") as file:
        file.truncate(SIZE)
        for at in range(5):
            file.seek(at * 55 * 2**20)
            file.write(noise)


def _peak(box: Path, out: Path, key: KeyPair) -> int:
    arguments: list[str | Path] = [sys.executable, "-c", UNPACK, box, out, key.public_file]
    return int(subprocess.run(arguments, capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("maker", ["ours", "original"])
def test_a_large_box_takes_no_more_memory_than_a_small_one(tmp_path: Path, key: KeyPair, maker: str) -> None:
    (tmp_path / "chat").mkdir()
    _large_file(tmp_path / "chat" / "large.bin")
    payload, box = tmp_path / "payload", tmp_path / "large.fpk"
    if maker == "ours":
        make_payload(payload, [PayloadEntry("large.bin", tmp_path / "chat" / "large.bin")], workers=2)
    else:
        command = "tar -cf - chat | zstd -q -o payload"
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    sign_payload(payload, box, key.private, durable=False)
    peak = _peak(box, tmp_path / "out", key)
    assert (tmp_path / "out" / "large.bin").stat().st_size == SIZE
    assert peak < MOST
