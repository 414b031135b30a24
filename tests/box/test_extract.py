from __future__ import annotations

import stat
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard

from flatpack_build import events
from flatpack_build.box import tar
from flatpack_build.box.container import sign_payload, verify_contents
from flatpack_build.box.extract import extract_verified
from flatpack_build.box.payload import PayloadFile, PayloadManifest
from flatpack_build.digest import Digest
from flatpack_build.errors import BoxError
from tests.box.samples import ENTRIES, KeyPair, make_box, make_payload


def _tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_box_comes_out_as_it_went_in(tmp_path: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    verified = extract_verified(box, tmp_path / "deep" / "out", [key.public])
    assert verified.manifest is not None
    out = tmp_path / "deep" / "out"
    found = _tree(out)
    assert found.pop("payload.json") == verified.manifest.encode()
    for entry in ENTRIES:
        assert found.pop(entry.path) == entry.source
        if entry.source is not None:
            assert stat.S_IMODE((out / entry.path).stat().st_mode) == (0o755 if entry.executable else 0o644)
    assert found == {"docs": None}
    assert list((tmp_path / "deep").iterdir()) == [out]
    assert verify_contents(box, [key.public]) == verified


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(BoxError, match="there already"):
        extract_verified(box, tmp_path / "out", [key.public])
    assert _tree(tmp_path / "out") == {"mine": b"mine"}


def test_nothing_is_written_for_an_unknown_key(tmp_path: Path, key: KeyPair, other_key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    with pytest.raises(BoxError, match="unknown key"):
        extract_verified(box, tmp_path / "deep" / "out", [other_key.public])
    assert list(tmp_path.iterdir()) == [box]


def test_a_box_that_changes_after_its_verification_is_found_out(tmp_path: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    descriptor = box.read_bytes()[4]
    changes: list[int] = []

    class Attacker:
        """Waits until the file has been hashed, then changes a bit that zstd does not look at."""

        def progress(self, done: int, total: int | None, unit: str) -> None:
            if done == total:
                with open(box, "r+b") as file:
                    file.seek(4)
                    changes.append(file.write(bytes([descriptor | 0x10])))

        def note(self, text: str) -> None: ...

    with events.listening(Attacker()), pytest.raises(BoxError, match="changed while it was read"):
        extract_verified(box, tmp_path / "out", [key.public])
    assert changes == [1]
    assert list(tmp_path.iterdir()) == [box]


# ---- archives that do not hold what they say, signed by a key that is trusted -------------------------------------

Items = list[tuple[bytes, bytes]]
"""Header and content of each entry."""


def _file(path: str, content: bytes, mode: int = 0o644) -> tuple[bytes, bytes]:
    return tar.encode_header(path, "file", mode, len(content)), content


def _folder(path: str, mode: int = 0o755) -> tuple[bytes, bytes]:
    return tar.encode_header(path, "folder", mode, 0), b""


def _retyped(item: tuple[bytes, bytes], kind: bytes, target: bytes = b"") -> tuple[bytes, bytes]:
    header, content = item
    header = header[:156] + kind + target.ljust(100, b"\0") + header[257:]
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    return header[:148] + b"%06o\0 " % total + header[156:], content


def _manifest(files: Sequence[PayloadFile], folders: tuple[str, ...] = ("empty",)) -> bytes:
    return PayloadManifest("chat", "1", "t", tuple(files), folders).encode()


A = PayloadFile("a", 0o644, 1, Digest.of_bytes(b"a"))
B = PayloadFile("sub/b.sh", 0o755, 2, Digest.of_bytes(b"bb"))
GOOD: Items = [
    _folder("chat"),
    _file("chat/payload.json", _manifest([A, B])),
    _file("chat/a", b"a"),
    _folder("chat/empty"),
    _file("chat/sub/b.sh", b"bb", 0o755),
]


def _replaced(at: int, *items: tuple[bytes, bytes]) -> Items:
    return [*GOOD[:at], *items, *GOOD[at + 1 :]]


HOSTILE: dict[str, tuple[Items, str]] = {
    "missing file": (_replaced(2), "'chat/a' is in the manifest but not in the box"),
    "missing last file": (_replaced(4), "'chat/sub/b.sh' is in the manifest but not in the box"),
    "missing folder": (_replaced(3), "'chat/empty' is in the manifest but not in the box"),
    "extra file": ([*GOOD, _file("chat/z", b"")], "'chat/z' is in the box but not in its manifest"),
    "a file outside": ([*GOOD, _file("../../etc/x", b"")], "not in its manifest"),
    "an absolute path": ([*GOOD, _file("/etc/x", b"")], "not in its manifest"),
    "another top folder": ([*GOOD, _folder("other")], "not in its manifest"),
    "the same file twice": ([*GOOD[:3], GOOD[2], *GOOD[3:]], "'chat/a' stands in the box twice"),
    "the manifest twice": (_replaced(1, GOOD[1], GOOD[1]), "not in its manifest"),
    "wrong order": ([*GOOD[:2], GOOD[4], GOOD[2], GOOD[3]], "'chat/a' is in the manifest but not in the box"),
    "other content": (_replaced(2, _file("chat/a", b"b")), "has not the digest"),
    "other size": (_replaced(2, _file("chat/a", b"aa")), "has not the mode and the size"),
    "executable": (_replaced(2, _file("chat/a", b"a", 0o755)), "has not the mode and the size"),
    "setuid": (_replaced(2, _file("chat/a", b"a", 0o4644)), "has not the mode and the size"),
    "symbolic link": (
        _replaced(2, _retyped(_file("chat/a", b""), b"2", b"/etc/passwd")),
        "is no plain file in the box .link.",
    ),
    "hard link": (
        _replaced(2, _retyped(_file("chat/a", b""), b"1", b"/etc/passwd")),
        "is no plain file in the box .link.",
    ),
    "device": (_replaced(2, _retyped(_file("chat/a", b""), b"3")), "is no plain file in the box .other."),
    "pipe": (_replaced(2, _retyped(_file("chat/a", b""), b"6")), "is no plain file in the box .other."),
    "folder for a file": (_replaced(2, _folder("chat/a")), "is no plain file in the box .folder."),
    "file for a folder": (_replaced(3, _file("chat/empty", b"")), "is not the folder"),
    "writable folder": (_replaced(3, _folder("chat/empty", 0o777)), "is not the folder"),
    "another name on top": ([_folder("chat2"), _file("chat2/payload.json", _manifest([A, B]))], "is not named as"),
    "manifest later": ([GOOD[0], GOOD[2], GOOD[1], *GOOD[3:]], "payload.json"),
    "no manifest": ([GOOD[0], *GOOD[2:]], "payload.json"),
    "manifest of a path outside": (
        _replaced(1, _file("chat/payload.json", _manifest([A, B]).replace(b'"sub/b.sh"', b'"../b.sh"'))),
        "leaves the folder",
    ),
    "manifest cut off": (_replaced(1, _file("chat/payload.json", _manifest([A, B])[:-1])), "not JSON"),
    "manifest is a link": (
        _replaced(1, _retyped(_file("chat/payload.json", b""), b"2", b"/etc/passwd")),
        "not a plain file",
    ),
}


def _pack(path: Path, items: Items, end: Callable[[int], bytes] = tar.ending) -> None:
    data = b"".join(header + content + tar.padding(len(content)) for header, content in items)
    path.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(data + end(len(data))))


def test_the_good_one_is_good(tmp_path: Path, key: KeyPair) -> None:
    _pack(tmp_path / "p", GOOD)
    sign_payload(tmp_path / "p", tmp_path / "a.fpk", key.private)
    extract_verified(tmp_path / "a.fpk", tmp_path / "out", [key.public])
    assert set(_tree(tmp_path / "out")) == {"a", "empty", "payload.json", "sub", "sub/b.sh"}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path: Path, key: KeyPair, what: str) -> None:
    items, message = HOSTILE[what]
    _pack(tmp_path / "p", items)
    sign_payload(tmp_path / "p", tmp_path / "a.fpk", key.private)
    before = _tree(tmp_path)
    with pytest.raises(BoxError, match=message) as caught:
        extract_verified(tmp_path / "a.fpk", tmp_path / "out", [key.public])
    assert caught.value.place and caught.value.place.file == str(tmp_path / "a.fpk")
    assert _tree(tmp_path) == before
    with pytest.raises(BoxError, match=message):
        verify_contents(tmp_path / "a.fpk", [key.public])


def test_something_after_the_archive_is_refused(tmp_path: Path, key: KeyPair) -> None:
    _pack(tmp_path / "p", GOOD, lambda _: bytes(1024) + b"hidden")
    sign_payload(tmp_path / "p", tmp_path / "a.fpk", key.private)
    with pytest.raises(BoxError, match="after its end"):
        verify_contents(tmp_path / "a.fpk", [key.public])


def test_a_frame_with_a_wrong_checksum_is_refused(tmp_path: Path, key: KeyPair) -> None:
    make_payload(tmp_path / "p")
    data = (tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(data[:-4] + zlib.crc32(data).to_bytes(4, "little"))
    sign_payload(tmp_path / "p", tmp_path / "a.fpk", key.private)
    with pytest.raises(BoxError, match="cannot be decompressed"):
        verify_contents(tmp_path / "a.fpk", [key.public])


def test_a_frame_that_wants_much_memory_is_refused(tmp_path: Path, key: KeyPair) -> None:
    data = b"".join(header + content + tar.padding(len(content)) for header, content in GOOD)
    parameters = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "p").write_bytes(compressor.compress(data + tar.ending(len(data))) + compressor.flush())
    sign_payload(tmp_path / "p", tmp_path / "a.fpk", key.private)
    with pytest.raises(BoxError, match="cannot be decompressed"):
        verify_contents(tmp_path / "a.fpk", [key.public])
