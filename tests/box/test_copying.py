from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from flatpack_build import events
from flatpack_build.box.container import SEPARATOR, sign_payload, verify_box
from flatpack_build.box.copying import copy_hashed, hash_file
from flatpack_build.box.packing import PayloadEntry
from tests.box.samples import KeyPair, make_payload
from tests.heard import Heard

MIB = 1 << 20


def _copied(folder: Path, data: bytes, size: int | None = None) -> tuple[bytes, str, bool]:
    (folder / "source").write_bytes(data)
    with open(folder / "source", "rb") as source, open(folder / "copy", "w+b") as copy:
        hashed = copy_hashed(source.fileno(), copy.fileno(), hashlib.sha256(), SEPARATOR, size=size)
    assert hashed.size == len(data[:size])
    return (folder / "copy").read_bytes(), hashed.state.hexdigest(), hashed.needle_found


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 40 * MIB + 17])
def test_the_copy_is_the_same_and_its_digest_right(tmp_path: Path, size: int) -> None:
    data = os.urandom(min(size, 3 * MIB)) * (size // (3 * MIB) + 1)
    data = data[:size]
    assert _copied(tmp_path, data) == (data, hashlib.sha256(data).hexdigest(), False)


def test_only_the_beginning_is_copied_where_that_is_asked(tmp_path: Path) -> None:
    data = os.urandom(20 * MIB)
    size = 17 * MIB + 3
    assert _copied(tmp_path, data, size)[:2] == (data[:size], hashlib.sha256(data[:size]).hexdigest())


@pytest.mark.parametrize("at", [0, 5, MIB - 24, MIB - 12, MIB - 1, MIB, 2 * MIB - 3, 3 * MIB - 25])
def test_the_separator_is_found_wherever_it_stands(tmp_path: Path, at: int) -> None:
    data = bytearray(3 * MIB)
    data[at : at + len(SEPARATOR)] = SEPARATOR
    assert _copied(tmp_path, bytes(data))[2]
    with open(tmp_path / "copy", "rb") as file:
        assert hash_file(file.fileno(), hashlib.sha256(), SEPARATOR).needle_found
    data[at + 3] ^= 1
    assert not _copied(tmp_path, bytes(data))[2]


def test_a_separator_that_would_be_there_only_with_what_went_before_is_none(tmp_path: Path) -> None:
    assert not _copied(tmp_path, SEPARATOR[5:])[2]
    assert not _copied(tmp_path, SEPARATOR[:-1])[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(3 * MIB))
    with (
        open(tmp_path / "source", "rb") as source,
        open("/dev/full", "r+b", buffering=0) as full,
        pytest.raises(OSError) as caught,
    ):
        copy_hashed(source.fileno(), full.fileno(), hashlib.sha256(), SEPARATOR)
    assert caught.value.errno == errno.ENOSPC


def test_signing_says_that_the_separator_is_inside(tmp_path: Path, key: KeyPair) -> None:
    for number, content in enumerate((SEPARATOR + os.urandom(400), os.urandom(425))):
        make_payload(tmp_path / "payload", [PayloadEntry("a", content)])
        inside = SEPARATOR in (tmp_path / "payload").read_bytes()
        notes = Heard()
        with events.listening(notes):
            signed = sign_payload(tmp_path / "payload", tmp_path / "a.fpk", key.private)
        assert signed.separator_inside == inside == (not number)
        assert bool(notes.notes) == inside
        assert notes.steps[-1] == (signed.payload_size, signed.payload_size, "bytes")
        assert signed.digest == hashlib.sha256((tmp_path / "a.fpk").read_bytes()).hexdigest()
        assert verify_box(tmp_path / "a.fpk", [key.public])


def test_a_payload_that_is_given_away_becomes_the_box(tmp_path: Path, key: KeyPair) -> None:
    payload = tmp_path / "payload"
    make_payload(payload)
    payload.chmod(0o444)
    inode = payload.stat().st_ino
    signed = sign_payload(payload, tmp_path / "dist" / "a.fpk", key.private, move=True)
    box = tmp_path / "dist" / "a.fpk"
    assert box.stat().st_ino == inode
    assert box.stat().st_mode & 0o777 == 0o644
    assert not payload.exists()
    assert signed.digest == hashlib.sha256(box.read_bytes()).hexdigest()
    assert verify_box(box, [key.public])
    assert [path.name for path in box.parent.iterdir()] == ["a.fpk"]


def test_a_payload_with_another_name_is_copied_even_when_it_is_given_away(tmp_path: Path, key: KeyPair) -> None:
    make_payload(tmp_path / "blob")
    before = (tmp_path / "blob").read_bytes()
    os.link(tmp_path / "blob", tmp_path / "payload")
    sign_payload(tmp_path / "payload", tmp_path / "a.fpk", key.private, move=True)
    assert (tmp_path / "blob").read_bytes() == before
    assert not (tmp_path / "payload").exists()
    assert verify_box(tmp_path / "a.fpk", [key.public])
