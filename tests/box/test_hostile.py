"""Boxes that a trusted key has signed, and that are still not to be trusted: one for each thing that is refused."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import zstandard

from flatpack_build.box import tar
from flatpack_build.box.checked import verify_contents
from flatpack_build.box.container import sign_payload
from flatpack_build.box.extract import extract_verified
from flatpack_build.box.limits import Limits
from flatpack_build.box.packing import PayloadEntry
from flatpack_build.box.payload import PayloadFile
from flatpack_build.digest import Digest
from flatpack_build.errors import BoxError
from tests.box.archives import (
    GOOD,
    OLD,
    A,
    B,
    Item,
    archive,
    extended,
    file,
    folder,
    instead_of,
    manifest,
    retyped,
    sealed,
    signed,
    tree,
    with_checksum,
)
from tests.box.samples import KeyPair, make_payload

LONG_TARGET = retyped(file("././@LongLink", bytes(200)), b"K")[0] + b"/etc/".ljust(512, b"\0")
"""GNU's header in front of a link to somewhere far away."""


def listed(*paths: str) -> Item:
    """A manifest of files with nothing in them, whatever their paths."""
    data = manifest([PayloadFile(f"p{at:03}", 0o644, 0, Digest.of_bytes(b"")) for at in range(len(paths))], ())
    for at, path in enumerate(paths):
        data = data.replace(b'"p%03d"' % at, b'"%s"' % path.encode())
    return file("chat/payload.json", data)


# What issues from it must not depend on whether the box has a manifest: each stands in both kinds of archive.
DANGEROUS: dict[str, tuple[Item, str]] = {
    "absolute path": (file("/etc/cron.d/x"), "'/etc/cron.d/x' in the box is absolute"),
    "absolute path below the folder": (file("chat//etc/x"), "'chat//etc/x' in the box is absolute"),
    "parent folder": (file("../../etc/x"), "'../../etc/x' in the box leaves the folder"),
    "parent folder in the middle": (file("chat/a/../../../x"), "'chat/a/../../../x' in the box leaves the folder"),
    "folder outside": (folder("chat/.."), "'chat/..' in the box leaves the folder"),
    "another folder": (file("other/x"), "'other/x' in the box stands outside its folder 'chat'"),
    "folder that begins alike": (file("chat2/x"), "'chat2/x' in the box stands outside its folder 'chat'"),
    "dot": (file("chat/./x"), "has an empty part or a '.' in it"),
    "symbolic link": (retyped(file("chat/ln"), b"2", b"/etc/passwd"), "'chat/ln' in the box is a symbolic link"),
    "symbolic link, long": (
        (LONG_TARGET + retyped(file("chat/ln"), b"2", b"/etc")[0], b""),
        "'chat/ln' in the box is a symbolic link",
    ),
    "hard link": (retyped(file("chat/ln"), b"1", b"/etc/passwd"), "'chat/ln' in the box is a hard link"),
    "character device": (retyped(file("chat/null"), b"3"), "'chat/null' in the box is a device"),
    "block device": (retyped(file("chat/sda"), b"4"), "'chat/sda' in the box is a device"),
    "named pipe": (retyped(file("chat/pipe"), b"6"), "'chat/pipe' in the box is a named pipe"),
    "sparse file": (retyped(file("chat/holes"), b"S"), "'chat/holes' in the box is a sparse file"),
    "unknown kind": (retyped(file("chat/what"), b"V"), "'chat/what' in the box is of a kind that no box holds"),
    "header for all": (retyped(file("pax_global_header"), b"g"), "outside|kind that no box holds"),
    "setuid": (file("chat/su", b"", 0o4755), "'chat/su' in the box has mode 4755, which is setuid"),
    "setgid": (file("chat/sg", b"", 0o2755), "'chat/sg' in the box has mode 2755, which is setgid"),
    "sticky": (folder("chat/tmp", 0o1777), "'chat/tmp' in the box has mode 1777, which is sticky"),
    "setuid and world-writable": (file("chat/su", b"", 0o6777), "mode 6777, which is setuid"),
    "zero byte": (extended(b"chat/a\0b", file("x")), "has a path with a zero byte in it"),
    "control character": (file("chat/a\x1b[2Jb"), r"'chat/a\\x1b\[2Jb' in the box has a control character"),
    "line feed": (file("chat/a\nb"), "has a control character"),
    "backslash": (file("chat/..\\..\\x"), "has a backslash"),
    "reversed writing": (file("chat/txt.\u202eexe"), "ends a line or turns the direction of writing"),
    "not UTF-8": (extended(b"chat/\xff\xfe", file("x")), "path that is not UTF-8"),
    "long part": (file("chat/" + "x" * 256), "is too long"),
    "long path": (file("chat/" + "/".join(["x" * 50] * 25)), "is too long"),
    "deep path": (file("chat/" + "/".join("x" * 120)), "is too deep"),
    "folder with content": (retyped(file("chat/f", b"x" * 512), b"5"), "has a folder with content: 'chat/f'"),
    "long header": (
        (with_checksum(tar.encode_header("x", "file", 0o644, 2**20)[:156] + b"x" + bytes(355)), b""),
        "has an extended header of 1048576 bytes",
    ),
}
# Archives that are not what their manifest says.
UNTRUE: dict[str, tuple[Sequence[Item], str]] = {
    "missing file": (instead_of(2), "'chat/a' is in the manifest but not in the box"),
    "missing last file": (instead_of(4), "'chat/sub/b.sh' is in the manifest but not in the box"),
    "missing folder": (instead_of(3), "'chat/empty' is in the manifest but not in the box"),
    "extra file": ([*GOOD, file("chat/z")], "'chat/z' is in the box but not in its manifest"),
    "extra folder": ([*GOOD, folder("chat/z")], "'chat/z' is in the box but not in its manifest"),
    "the same file twice": ([*GOOD[:3], GOOD[2], *GOOD[3:]], "'chat/a' stands in the box twice"),
    "the last file twice": ([*GOOD, GOOD[4]], "'chat/sub/b.sh' stands in the box twice"),
    "the manifest twice": (instead_of(1, GOOD[1], GOOD[1]), "'chat/payload.json' stands in the box twice"),
    "its folder twice": ([*GOOD, GOOD[0]], "'chat' stands in the box twice"),
    "wrong order": ([*GOOD[:2], GOOD[4], GOOD[2], GOOD[3]], "'chat/a' is in the manifest .*, or not in its place"),
    "other content": (instead_of(2, file("chat/a", b"b")), "'chat/a' has not the digest"),
    "other size": (instead_of(2, file("chat/a", b"aa")), "'chat/a' has not the mode and the size"),
    "executable": (instead_of(2, file("chat/a", b"a", 0o755)), "'chat/a' has not the mode and the size"),
    "folder for a file": (instead_of(2, folder("chat/a")), "'chat/a' is a folder in the box, and a file in its"),
    "file for a folder": (instead_of(3, file("chat/empty")), "'chat/empty' is not the folder"),
    "writable folder": (instead_of(3, folder("chat/empty", 0o777)), "'chat/empty' is not the folder"),
    "another name on top": ([folder("chat2"), file("chat2/payload.json", manifest([A, B]))], "'chat2' is not named as"),
    "manifest later": ([GOOD[0], GOOD[2], GOOD[1], *GOOD[3:]], "payload.json .* does not stand at its front"),
    "manifest cut off": (instead_of(1, file("chat/payload.json", manifest([A, B])[:-1])), "not JSON"),
    "manifest is a link": (instead_of(1, retyped(file("chat/payload.json"), b"2", b"/etc/passwd")), "not a plain file"),
    "manifest of a huge size": (
        instead_of(1, (tar.encode_header("chat/payload.json", "file", 0o644, 2**40), b"")),
        "payload.json of the box is too large",
    ),
    "manifest: absolute": (instead_of(1, listed("/etc/x")), "the path '/etc/x' is absolute"),
    "manifest: parent folder": (instead_of(1, listed("../x")), "the path '../x' leaves the folder"),
    "manifest: same path": (instead_of(1, listed("a", "a")), "'a' and 'a' are the same path"),
    "manifest: case": (instead_of(1, listed("README", "readme")), "'README' and 'readme' differ only in case"),
    "manifest: case of a folder": (instead_of(1, listed("D/a", "d/b")), "'D/a' and 'd/b' differ only in case"),
    "manifest: Unicode form": (instead_of(1, listed("e\u0301", "\u00e9")), "differ only in Unicode form"),
    "manifest: file and folder": (instead_of(1, listed("a", "a/b")), "need one name for both a file and a folder"),
    "manifest: itself": (instead_of(1, listed("Payload.json")), "differ only in case"),
    "manifest: setuid": (
        instead_of(1, file("chat/payload.json", manifest([A, B]).replace(b"0755", b"4755"))),
        "'sub/b.sh' has mode 4755",
    ),
}

# Archives without a manifest, as the original Flatpack makes them, in which something is wrong with the whole.
UNLISTED: dict[str, tuple[Sequence[Item], str]] = {
    "the same file twice": ([*OLD, file("chat/b.sh")], "'chat/b.sh' stands in the box twice"),
    "the same folder twice": ([*OLD, folder("chat/sub")], "'chat/sub' stands in the box twice"),
    "its folder twice": ([*OLD, folder("chat")], "'chat' stands in the box twice"),
    "case": ([*OLD, file("chat/B.SH")], "'B.SH' and 'b.sh' differ only in case"),
    "case of a folder": ([*OLD, file("chat/Sub/x")], "'sub/a' and 'Sub/x' differ only in case"),
    "Unicode form": ([*OLD, file("chat/e\u0301"), file("chat/\u00e9")], "differ only in Unicode form"),
    "file below a file": ([*OLD, file("chat/b.sh/x")], "'b.sh' and 'b.sh/x' need one name for both"),
    "file for a folder": ([*OLD, file("chat/x/y"), file("chat/x")], "'x' and 'x/y' need one name for both"),
    "manifest at the end": ([*OLD, GOOD[1]], "payload.json of the box does not stand at its front"),
    "no folder": ([file("b.sh", b"bb")], "does not begin with its folder"),
    "two folders in one": ([folder("a/b"), file("a/b/c")], "does not begin with its folder"),
}


def _refused(box: Path, key: KeyPair, message: str, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
    before = tree(box.parent)
    with pytest.raises(BoxError, match=message) as caught:
        extract_verified(box, box.parent / "deep" / "out", [key.public], allow_unlisted=True, limits=limits)
    assert caught.value.place and caught.value.place.file == str(box)
    assert "\n" not in caught.value.message and len(caught.value.message) < 500
    assert tree(box.parent) == before


def test_the_good_ones_are_good(tmp_path: Path, key: KeyPair) -> None:
    signed(tmp_path / "a.fpk", archive(GOOD), key.private)
    extract_verified(tmp_path / "a.fpk", tmp_path / "out", [key.public])
    assert set(tree(tmp_path / "out")) == {"a", "empty", "payload.json", "sub", "sub/b.sh"}
    signed(tmp_path / "b.fpk", archive(OLD), key.private)
    extract_verified(tmp_path / "b.fpk", tmp_path / "old", [key.public], allow_unlisted=True)
    assert tree(tmp_path / "old") == {"b.sh": b"bb", "sub": None, "sub/a": b"a"}


@pytest.mark.parametrize("what", DANGEROUS)
def test_what_is_dangerous_is_refused_with_a_manifest_and_without(tmp_path: Path, key: KeyPair, what: str) -> None:
    item, message = DANGEROUS[what]
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    box = signed(tmp_path / "new" / "a.fpk", archive([*GOOD, item]), key.private)
    _refused(box, key, message)
    with pytest.raises(BoxError, match=message):
        verify_contents(box, [key.public])
    _refused(signed(tmp_path / "old" / "b.fpk", archive([*OLD, item]), key.private), key, message)


EACH_ITS_OWN = (
    *("absolute path", "parent folder", "another folder", "dot", "symbolic link", "hard link", "character device"),
    *("named pipe", "sparse file", "unknown kind", "setuid", "setgid", "sticky", "zero byte", "control character"),
    *("backslash", "reversed writing", "not UTF-8", "long part", "deep path", "folder with content", "long header"),
    *("the same file twice", "extra file", "missing file", "other content", "other size", "folder for a file"),
    *("manifest: case", "manifest: Unicode form", "manifest: same path", "manifest: file and folder"),
)


def test_each_line_has_a_message_of_its_own(tmp_path: Path, key: KeyPair) -> None:
    reasons: dict[str, str] = {}
    for what in EACH_ITS_OWN:
        items = [*GOOD, DANGEROUS[what][0]] if what in DANGEROUS else UNTRUE[what][0]
        box = signed(tmp_path / "a.fpk", archive(items), key.private)
        with pytest.raises(BoxError) as caught:
            extract_verified(box, tmp_path / "out", [key.public])
        reason = re.sub("b?'[^']*'", "...", caught.value.message)
        assert reason not in reasons, (what, reasons[reason])
        reasons[reason] = what


@pytest.mark.parametrize("what", UNTRUE)
def test_what_is_not_as_its_manifest_says_is_refused(tmp_path: Path, key: KeyPair, what: str) -> None:
    items, message = UNTRUE[what]
    _refused(signed(tmp_path / "a.fpk", archive(items), key.private), key, message)


@pytest.mark.parametrize("what", UNLISTED)
def test_boxes_without_a_manifest_are_refused_as_strictly(tmp_path: Path, key: KeyPair, what: str) -> None:
    items, message = UNLISTED[what]
    _refused(signed(tmp_path / "a.fpk", archive(items), key.private), key, message)


MANY = [*GOOD[:1], listed(*[f"f{at:03}" for at in range(50)]), *[file(f"chat/f{at:03}") for at in range(50)]]
MANY_OLD = [*OLD, *[file(f"chat/f{at:03}") for at in range(50)]]
ZEROS = bytes(3_000_000)
LARGE = [
    GOOD[0],
    file("chat/payload.json", manifest([PayloadFile("zeros", 0o644, len(ZEROS), Digest.of_bytes(ZEROS))], ())),
    file("chat/zeros", ZEROS),
]
LARGE_OLD = [*OLD, file("chat/zeros", ZEROS)]

EXCESSIVE: dict[str, tuple[Sequence[Item], Limits, str]] = {
    "entries": (MANY, Limits(entries=40), "more than 40 files and folders"),
    "paths": (MANY, Limits(names=200), "paths in the box have more than 200 characters"),
    "paths, unlisted": (MANY_OLD, Limits(names=200), "paths in the box have more than 200 characters"),
    "entries, unlisted": (MANY_OLD, Limits(entries=40), "more than 40 files and folders"),
    "one file": (LARGE, Limits(file_size=2_999_999), "'chat/zeros' in the box has 3,000,000 bytes, and one file may"),
    "one file, unlisted": (LARGE_OLD, Limits(file_size=2_999_999), "and one file may have 2,999,999"),
    "total": (LARGE, Limits(total_size=2_999_999), "holds 3,000,000 bytes, and 2,999,999 may be unpacked here"),
    "total with headers": (LARGE, Limits(total_size=3_000_100), "holds more than 3,000,100 bytes"),
    "total, unlisted": (LARGE_OLD, Limits(total_size=1_000_000), "holds more than 1,000,000 bytes"),
    "ratio": (LARGE, Limits(ratio_floor=1_000_000), "grows to more than 1,000 times its size"),
    "ratio, unlisted": (LARGE_OLD, Limits(ratio=500, ratio_floor=1_000_000), "grows to more than 500 times its size"),
    "window": (LARGE, Limits(window=1024 * 1024), "cannot be decompressed"),
}


@pytest.mark.parametrize("what", EXCESSIVE)
def test_what_is_too_much_is_refused(tmp_path: Path, key: KeyPair, what: str) -> None:
    items, limits, message = EXCESSIVE[what]
    box = signed(tmp_path / "a.fpk", archive(items), key.private, level=3)
    _refused(box, key, message, limits)
    extract_verified(box, tmp_path / "out", [key.public], allow_unlisted=True)  # and not without the limit


def test_zeros_after_the_end_of_the_archive_are_counted_too(tmp_path: Path, key: KeyPair) -> None:
    box = signed(tmp_path / "a.fpk", archive(GOOD, lambda _: bytes(5_000_000)), key.private)
    _refused(box, key, "holds more than 1,000,000 bytes", Limits(total_size=1_000_000))
    _refused(box, key, "grows to more than 1,000 times", Limits(ratio_floor=1_000_000))


def test_a_box_larger_than_the_disk_is_refused_at_once(tmp_path: Path, key: KeyPair) -> None:
    size = 2**55
    content = manifest([PayloadFile("a", 0o644, size, Digest.of_bytes(b""))], ())
    header = tar.encode_header("chat/a", "file", 0o644, size)
    box = signed(tmp_path / "a.fpk", archive([GOOD[0], file("chat/payload.json", content), (header, b"")]), key.private)
    _refused(box, key, f"holds {size:,} bytes, and [0-9,]+ may be unpacked here")
    _refused(box, key, f"has {size:,} bytes, and one file may have", Limits(total_size=2**56))


@pytest.mark.parametrize("name", ["a\x1b.fpk", "..fpk", "...fpk"])
def test_a_single_file_named_after_its_box_is_checked_too(tmp_path: Path, key: KeyPair, name: str) -> None:
    box = signed(tmp_path / "a.fpk", b"no archive\n" * 100, key.private).rename(tmp_path / name)
    _refused(box, key, "the name '.*' (has|leaves)")


def test_a_single_file_has_limits_too(tmp_path: Path, key: KeyPair) -> None:
    box = signed(tmp_path / "a.fpk", b"no archive\n" * 1000, key.private)
    _refused(box, key, "more than 9,999 bytes", Limits(file_size=9_999))


def test_without_a_manifest_only_when_asked(tmp_path: Path, key: KeyPair) -> None:
    box = signed(tmp_path / "a.fpk", archive(OLD), key.private)
    with pytest.raises(BoxError, match=r"no payload\.json to check its files against.*") as caught:
        extract_verified(box, tmp_path / "out", [key.public])
    assert "original Flatpack" in caught.value.hint
    assert list(tmp_path.iterdir()) == [box]


def test_something_after_the_archive_is_refused(tmp_path: Path, key: KeyPair) -> None:
    for items in (GOOD, OLD):
        box = signed(tmp_path / "a.fpk", archive(items, lambda _: bytes(1024) + b"hidden"), key.private)
        _refused(box, key, "something after its end")


def test_a_frame_with_a_wrong_checksum_is_refused(tmp_path: Path, key: KeyPair) -> None:
    data = zstandard.ZstdCompressor(write_checksum=True).compress(archive(GOOD))
    damaged = data[:-4] + zlib.crc32(data).to_bytes(4, "little")
    _refused(sealed(tmp_path / "a.fpk", damaged, key.private), key, "cannot be decompressed")


def test_a_frame_that_wants_much_memory_is_refused(tmp_path: Path, key: KeyPair) -> None:
    data = archive(GOOD)
    parameters = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    box = sealed(tmp_path / "a.fpk", compressor.compress(data) + compressor.flush(), key.private)
    with pytest.raises(BoxError, match="cannot be decompressed"):
        verify_contents(box, [key.public])


def test_more_files_than_a_reader_takes_are_neither_packed_nor_signed(tmp_path: Path, key: KeyPair) -> None:
    folders = "/".join(["f" * 250] * 3)
    with pytest.raises(BoxError, match="too many files for a box"):
        make_payload(tmp_path / "none", [PayloadEntry(f"{folders}/{at}", b"") for at in range(10_000)])
    assert (tmp_path / "none").read_bytes() == b""
    (tmp_path / "none").unlink()

    size = 9_000_000
    head = tar.encode_header("chat", "folder", 0o755, 0) + tar.encode_header("chat/payload.json", "file", 0o644, size)
    content = head + bytes(size) + tar.padding(size)
    (tmp_path / "p").write_bytes(zstandard.compress(content + tar.ending(len(content))))
    with pytest.raises(BoxError, match="too many files for a box"):
        sign_payload(tmp_path / "p", tmp_path / "a.fpk", key.private)
    assert list(tmp_path.iterdir()) == [tmp_path / "p"]


@pytest.mark.skipif(os.name != "posix", reason="needs umask")
def test_no_umask_opens_what_is_unpacked(tmp_path: Path, key: KeyPair) -> None:
    box = signed(tmp_path / "a.fpk", archive(GOOD), key.private)
    before = os.umask(0)
    try:
        extract_verified(box, tmp_path / "out", [key.public])
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]}
    assert modes == {"out": 0o755, "payload.json": 0o644, "a": 0o644, "empty": 0o755, "sub": 0o755, "b.sh": 0o755}
