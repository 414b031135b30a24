from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
import zstandard

from flatpack_build import events
from flatpack_build.box.packing import PayloadEntry, available_workers, write_payload
from flatpack_build.box.payload import PayloadFile, PayloadManifest
from flatpack_build.digest import Digest
from flatpack_build.errors import BoxError, DamagedInputError
from tests.box.samples import ENTRIES, NAME, TARGET, VERSION, make_payload
from tests.heard import Heard


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _mixed_bytes(size: int) -> bytes:
    """Half noise, half text, so that every kind of zstd block appears."""
    rng = random.Random(3)
    return b"".join(rng.randbytes(50_000) + b"a line of text, again and again\n" * 1600 for _ in range(size // 101_200))


@pytest.mark.parametrize("level", [1, 3, 19])
def test_the_number_of_workers_changes_no_byte(tmp_path: Path, level: int) -> None:
    # Some jobs of compression threads: a job is 2 to 8 MiB at the lower levels.
    size = 40_000_000 if level < 10 else 6_000_000
    entries = [*ENTRIES, PayloadEntry("large.bin", _mixed_bytes(size))]
    digests = set()
    for workers in (1, 2, 4):
        make_payload(tmp_path / "p", entries, workers=workers, level=level)
        digests.add(_sha256(tmp_path / "p"))
    assert len(digests) == 1


@pytest.mark.parametrize("size", [0, 1, 100_000, 600_000, 3_000_000])
def test_small_payloads_do_not_depend_on_workers_either(tmp_path: Path, size: int) -> None:
    digests = set()
    for workers in (1, 2, 4):
        make_payload(tmp_path / "p", [PayloadEntry("x", _mixed_bytes(size) or b"x" * size)], workers=workers)
        digests.add(_sha256(tmp_path / "p"))
    assert len(digests) == 1


def test_the_archive_is_the_same_on_every_machine(tmp_path: Path) -> None:
    make_payload(tmp_path / "p")
    data = zstandard.ZstdDecompressor().stream_reader((tmp_path / "p").read_bytes()).read()
    assert hashlib.sha256(data).hexdigest() == GOLDEN


def test_folder_time_umask_and_order_change_no_byte(tmp_path: Path) -> None:
    digests = set()
    for number, (folder, mask) in enumerate([("here", 0o022), ("some/where/else", 0o077)]):
        root = tmp_path / folder
        root.mkdir(parents=True)
        old = os.umask(mask)
        try:
            (root / "a.txt").write_bytes(b"a")
            (root / "b.sh").write_bytes(b"b")
            os.utime(root / "a.txt", (number * 1e9, number * 1e9))
            entries = [
                PayloadEntry("a.txt", root / "a.txt"),
                PayloadEntry("sub/b.sh", root / "b.sh", True),
                PayloadEntry("empty", None),
            ]
            make_payload(root / "p", entries if number else entries[::-1])
        finally:
            os.umask(old)
        digests.add(_sha256(root / "p"))
    assert len(digests) == 1


def test_it_is_one_frame_with_its_size_and_a_checksum(tmp_path: Path) -> None:
    make_payload(tmp_path / "p", [PayloadEntry("large.bin", _mixed_bytes(30_000_000))], workers=2)
    data = (tmp_path / "p").read_bytes()
    parameters = zstandard.get_frame_parameters(data)
    assert parameters.has_checksum
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    archive = decompressor.decompress(data)
    assert decompressor.unused_data == b""
    assert parameters.content_size == len(archive)


def test_other_programs_list_and_unpack_it(tmp_path: Path) -> None:
    make_payload(tmp_path / "p.tar.zst")
    archive = subprocess.run(["zstd", "-dcq", tmp_path / "p.tar.zst"], capture_output=True, check=True).stdout
    listing = subprocess.run(["tar", "-tv", "--quoting-style=literal"], input=archive, capture_output=True, check=True)
    assert listing.stderr == b""
    lines = listing.stdout.decode().splitlines()
    assert lines[0].split()[-1] == "chat/"
    assert lines[1].split()[-1] == "chat/payload.json"
    assert lines[1].startswith("-rw-r--r-- 0/0")
    assert any(line.startswith("-rwxr-xr-x 0/0") and line.endswith("chat/build.sh") for line in lines)
    assert len(lines) == len(ENTRIES) + 2
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-x", "-C", tmp_path / "out"], input=archive, check=True)
    for entry in ENTRIES:
        path = tmp_path / "out" / "chat" / entry.path
        assert path.is_dir() if entry.source is None else path.read_bytes() == entry.source


def test_the_manifest_tells_what_is_in_it(tmp_path: Path) -> None:
    manifest = make_payload(tmp_path / "p")
    data = zstandard.ZstdDecompressor().stream_reader((tmp_path / "p").read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        inside = archive.extractfile("chat/payload.json")
        assert inside is not None
        assert inside.read() == manifest.encode()
    assert (manifest.flatpack, manifest.version, manifest.target) == (NAME, VERSION, TARGET)
    assert manifest.folders == ("models",)
    by_path = {file.path: file for file in manifest.files}
    for entry in ENTRIES:
        if isinstance(entry.source, bytes):
            expected = PayloadFile(
                entry.path, 0o755 if entry.executable else 0o644, len(entry.source), Digest.of_bytes(entry.source)
            )
            assert by_path[entry.path] == expected
    assert manifest.size == sum(len(entry.source) for entry in ENTRIES if isinstance(entry.source, bytes))
    assert PayloadManifest.decode(manifest.encode()) == manifest
    assert PayloadManifest.decode(manifest.encode()).digest == manifest.digest


def test_progress_counts_bytes(tmp_path: Path) -> None:
    heard = Heard()
    with events.listening(heard):
        make_payload(tmp_path / "p", [PayloadEntry("x", tmp_path.joinpath("x"))] if _fill(tmp_path / "x") else [])
    assert heard.steps[0] == (0, 30_000_000, "bytes")
    assert heard.steps[-1] == (30_000_000, 30_000_000, "bytes")
    assert 3 <= len(heard.steps) < 20
    assert [done for done, _, _ in heard.steps] == sorted(done for done, _, _ in heard.steps)


def test_a_known_digest_changes_no_byte_and_is_checked(tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(_mixed_bytes(9_000_000))
    digest = Digest(_sha256(source))
    make_payload(tmp_path / "measured", [PayloadEntry("x", source), *ENTRIES])
    make_payload(tmp_path / "known", [PayloadEntry("x", source, sha256=digest), *ENTRIES])
    assert _sha256(tmp_path / "known") == _sha256(tmp_path / "measured")

    with open(source, "r+b") as file:
        file.seek(5_000_000)
        byte = file.read(1)[0] ^ 1
        file.seek(5_000_000)
        file.write(bytes([byte]))
    with pytest.raises(DamagedInputError, match="'x' is not what it was"):
        make_payload(tmp_path / "damaged", [PayloadEntry("x", source, sha256=digest)])


def _fill(path: Path) -> bool:
    path.write_bytes(bytes(30_000_000))
    return True


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"before" * 1000)

    class Changing(io.BytesIO):
        """An output whose first bytes come when the files are measured, and not read yet."""

        def write(self, data: object, /) -> int:
            return len(data)  # type: ignore[arg-type]

    class Listener:
        def progress(self, done: int, total: int | None, unit: str) -> None:
            if done == 0:
                time.sleep(0.01)
                source.write_bytes(b"after!" * 1000)

        def note(self, text: str) -> None: ...

    with events.listening(Listener()), pytest.raises(BoxError, match="changed while it was packed"):
        write_payload([PayloadEntry("x", source)], Changing(), flatpack="a", version="1", target="t")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([PayloadEntry("../x", b"")], "leaves the folder"),
        ([PayloadEntry("a", b""), PayloadEntry("A", b"")], "differ only in case"),
        ([PayloadEntry("a", b""), PayloadEntry("a", b"")], "same path"),
        ([PayloadEntry("payload.json", b"")], "same path"),
        ([PayloadEntry("Payload.JSON", b"")], "differ only in case"),
    ],
)
def test_what_may_not_stand_in_a_box_is_not_packed(entries: list[PayloadEntry], message: str) -> None:
    with pytest.raises(BoxError, match=message):
        write_payload(entries, io.BytesIO(), flatpack="a", version="1", target="t")


def _manifest() -> PayloadManifest:
    file = PayloadFile("a", 0o644, 1, Digest.of_bytes(b"a"))
    return PayloadManifest("chat", "1", "pi5", (file, dataclasses.replace(file, path="b/c", mode=0o755)), ("d",))


def _changed(**changes: object) -> bytes:
    return json.dumps(json.loads(_manifest().encode()) | changes, sort_keys=True, separators=(",", ":")).encode()


def _with_file(**changes: object) -> bytes:
    value = json.loads(_manifest().encode())
    value["files"][0] |= changes
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no payload manifest"),
        (b"{}", "no payload manifest"),
        (_changed(format_version=2), "format version 2"),
        (_changed(format_version=True), "canonical"),
        (_changed(surprise=1), "canonical"),
        (_manifest().encode() + b"\n", "canonical"),
        (_manifest().encode().replace(b'"version":"1"', b'"version":"0","version":"1"'), "canonical"),
        (_changed(files="abc"), "no payload manifest"),
        (_changed(files=[1]), "no payload manifest"),
        (_changed(folders=["d", "d"]), "sorted"),
        (_changed(folders=[3]), "no text"),
        (_changed(flatpack="../up"), "cannot be named"),
        (_changed(flatpack=7), "must be texts"),
        (_changed(version=None), "must be texts"),
        (_with_file(mode="4755"), "mode 4755"),
        (_with_file(mode="0o644"), "canonical"),
        (_with_file(size=-1), "no valid size"),
        (_with_file(size=True), "no valid size"),
        (_with_file(size=1.0), "no valid size"),
        (_with_file(sha256="abc"), "not a sha256"),
        (_with_file(sha256="A" * 64), "canonical"),
        (_with_file(path="/etc/passwd"), "absolute"),
        (_with_file(path="x/../../y"), "leaves the folder"),
        (_with_file(path="z"), "not sorted"),
        (_with_file(path="b/c"), "the same path"),
        (_with_file(path="B/d"), "case"),
        (_with_file(path="payload.json"), "the same path"),
        (_with_file(path="\ud800"), "no payload manifest"),
        (_with_file(path=5), "no text"),
    ],
)
def test_a_manifest_is_read_strictly(data: bytes, message: str) -> None:
    with pytest.raises(BoxError, match=message):
        PayloadManifest.decode(data)


def test_there_is_at_least_one_worker() -> None:
    assert 1 <= available_workers() <= 8


GOLDEN = "f877cb3fe47bdf36282bd876b16cae4f1699c75a716a4b3d5cd6b923a24c6b02"
