from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import zstandard

from flatpack_build.box.checked import verify_contents
from flatpack_build.box.container import sign_payload, verify_box
from flatpack_build.box.extract import extract_verified
from flatpack_build.box.sealing import (
    Identity,
    copy_payload,
    identity_of_box,
    identity_of_folder,
    kind_of_input,
    seal_file,
    seal_folder,
)
from flatpack_build.box.signature import SignatureHash
from flatpack_build.errors import BoxError
from tests.box.original import original_box, original_folder, original_payload, original_verify
from tests.box.samples import KeyPair, make_box, make_payload

IDENTITY = Identity("chat", "1.0", "any")


def test_a_folder_becomes_a_box_with_a_list_of_its_files(tmp_path: Path, key: KeyPair) -> None:
    folder = original_folder(tmp_path)
    for left_out in ("old.fpk", ".git/config", "sub/__pycache__/a.pyc", "payload.json"):
        (folder / left_out).parent.mkdir(parents=True, exist_ok=True)
        (folder / left_out).write_text("{}")
    seal_folder(folder, tmp_path / "out" / "a.fpk", key.private, SignatureHash.SHA384, IDENTITY)
    verified = verify_contents(tmp_path / "out" / "a.fpk", [key.public])
    assert verified.hash is SignatureHash.SHA384 and verified.manifest
    assert (verified.manifest.flatpack, verified.manifest.version, verified.manifest.target) == ("chat", "1.0", "any")
    names = [(file.path, file.mode) for file in verified.manifest.files]
    assert [name for name in names if name[0] in ("build.sh", "flatpack.toml")] == [
        ("build.sh", 0o755),
        ("flatpack.toml", 0o644),
    ]
    assert len(names) == 3
    assert verified.manifest.folders == ("sub/empty",)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.fpk"]


def test_what_was_unpacked_and_is_sealed_again_has_the_same_payload(tmp_path: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    first = verify_box(box, [key.public])
    extract_verified(box, tmp_path / "out", [key.public])
    assert identity_of_folder(tmp_path / "out") == identity_of_box(box) == Identity("chat", "0.1.0", "pi5")
    seal_folder(
        tmp_path / "out", tmp_path / "b.fpk", key.private, SignatureHash.SHA256, identity_of_folder(tmp_path / "out")
    )
    assert verify_box(tmp_path / "b.fpk", [key.public]).payload_digest == first.payload_digest


def test_a_single_file_as_the_original_makes_it(tmp_path: Path, key: KeyPair) -> None:
    (tmp_path / "a.txt").write_text("a text\n" * 1000)
    seal_file(tmp_path / "a.txt", tmp_path / "a.fpk", key.private, SignatureHash.SHA256)
    payload = original_verify((tmp_path / "a.fpk").read_bytes(), key.public.rsa)
    assert zstandard.ZstdDecompressor().decompress(payload) == (tmp_path / "a.txt").read_bytes()
    assert verify_contents(tmp_path / "a.fpk", [key.public]).manifest is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fpk", "a.txt"]


def test_kinds_of_input(tmp_path: Path, key: KeyPair) -> None:
    payload = original_payload(original_folder(tmp_path))
    for name, content, kind in (
        ("payload", payload, ("payload", len(payload))),
        ("box", original_box(payload, key.private.rsa), ("box", len(payload))),
        ("text", b"hello", ("file", 0)),
        ("empty", b"", ("file", 0)),
        ("two frames", payload * 2, ("file", 0)),
    ):
        (tmp_path / name).write_bytes(content)
        assert kind_of_input(tmp_path / name) == kind
    assert kind_of_input(tmp_path / "chat") == ("folder", 0)
    (tmp_path / "cut").write_bytes(payload[:-5])
    with pytest.raises(BoxError, match="no whole payload"):
        kind_of_input(tmp_path / "cut")
    with pytest.raises(BoxError, match="cannot be read"):
        kind_of_input(tmp_path / "missing")


def test_a_box_gets_another_signature_in_its_place(tmp_path: Path, key: KeyPair, other_key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    before = verify_box(box, [key.public])
    signed = sign_payload(box, box, other_key.private, SignatureHash.SHA512, size=before.payload_size)
    after = verify_contents(box, [other_key.public])
    assert (after.manifest, after.payload_size) == (before.manifest, signed.payload_size)
    with pytest.raises(BoxError, match="unknown key"):
        verify_box(box, [key.public])


def test_a_payload_without_its_signature(tmp_path: Path, key: KeyPair) -> None:
    make_payload(tmp_path / "payload")
    sign_payload(tmp_path / "payload", tmp_path / "a.fpk", key.private)
    copy_payload(tmp_path / "a.fpk", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "payload").read_bytes()


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        (None, Identity("chat", "0.0.0", "any")),
        ('version = "2"\n', Identity("chat", "2", "any")),
        ('version = 2\nenvironment = 1\n', Identity("chat", "0.0.0", "any")),
        ('version = "2"\n[environment]\nmodel_name = "talk"\n', Identity("talk", "2", "any")),
    ],
)  # fmt: skip
def test_who_a_folder_is(tmp_path: Path, text: str | None, identity: Identity) -> None:
    (tmp_path / "chat").mkdir()
    if text is not None:
        (tmp_path / "chat" / "flatpack.toml").write_text(text)
    assert identity_of_folder(tmp_path / "chat") == identity


def test_folders_that_cannot_be_boxes_leave_nothing(tmp_path: Path, key: KeyPair) -> None:
    folder = original_folder(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (folder / "link").symlink_to("build.sh")
    with pytest.raises(BoxError, match="'link' is not a plain file"):
        seal_folder(folder, out / "a.fpk", key.private, SignatureHash.SHA256, IDENTITY)
    (folder / "link").unlink()
    with pytest.raises(BoxError, match="cannot be named"):
        seal_folder(folder, out / "a.fpk", key.private, SignatureHash.SHA256, Identity("a b", "1", "any"))
    (folder / "flatpack.toml").write_text("version =\n")
    with pytest.raises(BoxError, match="not valid TOML"):
        identity_of_folder(folder)
    assert list(out.iterdir()) == []


def test_the_command_of_the_original_could_list_it(tmp_path: Path, key: KeyPair) -> None:
    box = tmp_path / "a.fpk"
    signed = seal_folder(original_folder(tmp_path), box, key.private, SignatureHash.SHA256, IDENTITY)
    (tmp_path / "p").write_bytes(box.read_bytes()[: signed.payload_size])
    listing = subprocess.run("zstd -dcq p | tar -t", shell=True, cwd=tmp_path, capture_output=True, check=True).stdout
    assert listing.splitlines()[:2] == [b"chat/", b"chat/payload.json"]
