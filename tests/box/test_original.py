"""Boxes of the original Flatpack are read, and ours are read as the original reads them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard
from cryptography.exceptions import InvalidSignature

from flatpack_build.box.checked import verify_contents
from flatpack_build.box.container import verify_box
from flatpack_build.box.contents import find_payload_manifest, open_box
from flatpack_build.box.description import describe_open_box
from flatpack_build.box.packing import PayloadEntry
from flatpack_build.box.reading import top_folder
from flatpack_build.box.signature import SignatureHash
from flatpack_build.errors import BoxError
from tests.box.original import original_box, original_folder, original_payload, original_verify
from tests.box.samples import KeyPair, make_box
from tests.gguf_files import gguf

FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}


@pytest.mark.parametrize("hash", SignatureHash)
@pytest.mark.parametrize("tar_format", FORMATS)
def test_folder_boxes_of_the_original(tmp_path: Path, key: KeyPair, hash: SignatureHash, tar_format: str) -> None:
    folder = original_folder(tmp_path)
    box = tmp_path / "chat.fpk"
    payload = original_payload(folder, tar_format=FORMATS[tar_format])
    box.write_bytes(original_box(payload, key.private.rsa, hash.value))
    verified = verify_contents(box, [key.public])
    assert (verified.hash, verified.manifest, verified.payload_size) == (hash, None, len(payload))
    with open_box(box) as file:
        description = describe_open_box(file)
        assert top_folder(file) == "chat"
    assert (description.layout, description.top, description.manifest) == ("folder", "chat", None)
    found = {entry.path: entry for entry in description.entries}
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert {path for path, entry in found.items() if entry.kind == "file"} == set(files)
    assert {path: entry.size for path, entry in found.items() if entry.kind == "file"} == {
        path: file.stat().st_size for path, file in files.items()
    }
    assert found["build.sh"].mode == 0o755
    assert found["sub/empty"].kind == "folder"


def test_a_box_made_by_commands_alone(tmp_path: Path, key: KeyPair) -> None:
    original_folder(tmp_path)
    subprocess.run("tar -c chat | zstd -q -o payload", shell=True, cwd=tmp_path, check=True)
    options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max"]
    sign: list[str | Path] = ["openssl", "dgst", "-sha256", "-sign", key.private_file, "-out", "signature"]
    subprocess.run([*sign, *options, "payload"], cwd=tmp_path, check=True)
    box = tmp_path / "chat.fpk"
    parts = (tmp_path / "payload").read_bytes(), (tmp_path / "signature").read_bytes()
    box.write_bytes(b"---SIGNATURE_SEPARATOR---".join(parts))
    assert verify_contents(box, [key.public]).manifest is None
    with open_box(box) as file:
        assert {entry.path for entry in describe_open_box(file).entries} >= {"flatpack.toml", "build.sh", "sub/empty"}


@pytest.mark.parametrize("hash", SignatureHash)
@pytest.mark.parametrize("content", [b"", b"just a text\n" * 50_000, gguf()], ids=["empty", "text", "model"])
def test_single_file_boxes_of_the_original(tmp_path: Path, key: KeyPair, hash: SignatureHash, content: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    box = tmp_path / "model.fpk"
    box.write_bytes(original_box(original_payload(tmp_path / "model.gguf"), key.private.rsa, hash.value))
    assert verify_contents(box, [key.public]).hash is hash
    assert find_payload_manifest(box) is None
    with open_box(box) as file:
        description = describe_open_box(file)
        assert top_folder(file) is None
    (entry,) = description.entries
    assert (description.layout, entry.path, entry.kind, entry.size) == ("file", "", "file", len(content))
    assert len(description.models) == content.startswith(b"GGUF")


def test_a_single_file_of_unknown_size(tmp_path: Path, key: KeyPair) -> None:
    stream = io.BytesIO()
    with zstandard.ZstdCompressor(write_content_size=False).stream_writer(stream, closefd=False) as writer:
        writer.write(gguf())
    (tmp_path / "a.fpk").write_bytes(original_box(stream.getvalue(), key.private.rsa))
    with open_box(tmp_path / "a.fpk") as file:
        description = describe_open_box(file)
    assert description.entries[0].size == len(gguf())
    assert description.models[0].facts["architecture"] == "llama"


def test_a_changed_box_of_the_original_is_refused(tmp_path: Path, key: KeyPair) -> None:
    data = bytearray(original_box(original_payload(original_folder(tmp_path)), key.private.rsa))
    data[40] ^= 1
    (tmp_path / "a.fpk").write_bytes(data)
    with pytest.raises(BoxError, match="damaged"):
        verify_box(tmp_path / "a.fpk", [key.public])


@pytest.mark.parametrize("size", [300, 700, 3000])
def test_contents_that_end_early_are_refused_though_they_are_signed(tmp_path: Path, key: KeyPair, size: int) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(original_folder(tmp_path), arcname="chat")
    cut = (tmp_path / "a.tar").read_bytes()[:size]
    (tmp_path / "a.fpk").write_bytes(original_box(zstandard.compress(cut), key.private.rsa))
    if size < 512:  # then it could as well be a single file
        assert verify_contents(tmp_path / "a.fpk", [key.public]).manifest is None
        return
    with pytest.raises(BoxError, match=r"cut off|ends in the middle|decompressed"):
        verify_contents(tmp_path / "a.fpk", [key.public])
    if size == 3000:
        assert verify_box(tmp_path / "a.fpk", [key.public]).manifest is None


def test_what_is_dangerous_is_refused_though_it_is_signed(tmp_path: Path, key: KeyPair) -> None:
    folder = original_folder(tmp_path)
    (folder / "zz").symlink_to("/etc/passwd")
    (tmp_path / "a.fpk").write_bytes(original_box(original_payload(folder), key.private.rsa))
    assert verify_box(tmp_path / "a.fpk", [key.public]).manifest is None
    with pytest.raises(BoxError, match="symbolic link"):
        verify_contents(tmp_path / "a.fpk", [key.public])


@pytest.mark.parametrize("hash", SignatureHash)
def test_our_boxes_are_read_as_the_original_reads_boxes(tmp_path: Path, key: KeyPair, hash: SignatureHash) -> None:
    box = make_box(tmp_path, key.private, hash=hash)
    payload = original_verify(box.read_bytes(), key.public.rsa, hash.value)
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompress(payload))) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["chat"]
    assert (tmp_path / "out/chat/flatpack.toml").read_text() == 'version = "0.1.0"\n'
    assert (tmp_path / "out/chat/build.sh").stat().st_mode & 0o111
    data = bytearray(box.read_bytes())
    data[100] ^= 1
    with pytest.raises(InvalidSignature):
        original_verify(bytes(data), key.public.rsa, hash.value)


def test_the_separator_in_a_payload_stops_the_original_and_not_us(tmp_path: Path, key: KeyPair) -> None:
    noise = bytes(range(256)) * 3
    box = make_box(tmp_path, key.private, [PayloadEntry("a", b"---SIGNATURE_SEPARATOR---" + noise[:200])])
    assert verify_box(box, [key.public]).manifest is not None
    if box.read_bytes().count(b"---SIGNATURE_SEPARATOR---") == 2:
        with pytest.raises(ValueError, match="unpack"):
            original_verify(box.read_bytes(), key.public.rsa)
