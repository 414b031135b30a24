"""How much memory it takes to verify and to unpack a large box: the same as for a small one."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from flatpack_build.box.container import sign_payload
from flatpack_build.box.packing import PayloadEntry
from tests.box.archives import extended, file, folder
from tests.box.samples import KeyPair, make_payload
from tests.gguf_files import text

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


DESCRIBE = """
import sys
from flatpack_build.box.contents import open_box
from flatpack_build.box.description import describe_open_box
from flatpack_build.errors import BoxError

try:
    with open_box(sys.argv[1]) as file:
        for model in describe_open_box(file).models:
            print(model.problem or "a model")
except BoxError as error:
    print(error.message)
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024 // 1000_000)
"""
HOSTILE_MOST = 250
"""MB."""


def _long_paths() -> Iterator[bytes]:
    """A quarter of a gigabyte of paths."""
    yield folder("chat")[0]
    for number in range(4000):
        yield extended(b"chat/%d" % number + b"x" * 60_000, file("chat/f"))[0]


def _header_of(entries: int, tensors: int, one: bytes, *, of: int) -> Iterator[bytes]:
    """A single file: a GGUF of ``of`` times ``one``, each with a name of its own."""
    yield b"GGUF" + struct.pack("<IQQ", 3, tensors, entries + 1)
    yield text("general.architecture") + struct.pack("<I", 8) + text("x")
    for number in range(of):
        yield text(b"%07x" % number) + one


ARRAY = struct.pack("<IIQ", 9, 3, 4096) + struct.pack("<4096h", *range(1000, 5096))
NUMBER = struct.pack("<IB", 0, 0)
TENSOR = struct.pack("<IQIQ", 1, 8, 24, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_long_paths(), "the paths in the box have more than"),
        (_header_of(20_000, 0, ARRAY, of=20_000), "a model"),
        (_header_of(8_000_000, 0, NUMBER, of=2_000_000), "at most 65536 are read"),
        (_header_of(0, 4_000_000, TENSOR, of=1_500_000), "at most 262144 are read"),
    ],
    ids=["paths", "arrays", "entries", "tensors"],
)
def test_a_small_hostile_box_is_described_in_little_memory(tmp_path: Path, content: Iterator[bytes], said: str) -> None:
    """Nobody has signed it: it is what a person looks into to find out what it is."""
    box = tmp_path / "hostile.fpk"
    with open(box, "wb") as file, zstandard.ZstdCompressor().stream_writer(file, size=-1) as writer:
        for part in content:
            writer.write(part)
    assert box.stat().st_size < 40_000_000
    done = subprocess.run([sys.executable, "-c", DESCRIBE, box], capture_output=True, check=True, text=True)
    *words, peak = done.stdout.splitlines()
    assert said in " ".join(words)
    assert int(peak) < HOSTILE_MOST
