from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from flatpack_build.box.container import SEPARATOR, find_boxes, sign_payload, verify_box
from flatpack_build.box.contents import find_payload_manifest, list_entries, read_payload_manifest
from flatpack_build.box.packing import PayloadEntry
from flatpack_build.box.signature import SignatureHash, possible_signers
from flatpack_build.errors import BoxError
from tests.box.samples import ENTRIES, KeyPair, make_box, make_payload


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Path:
    return make_box(tmp_path_factory.mktemp("boxes"), key.private)


@pytest.mark.parametrize("hash", SignatureHash)
def test_a_signed_box_verifies_and_tells_what_it_is(tmp_path: Path, key: KeyPair, hash: SignatureHash) -> None:
    manifest = make_payload(tmp_path / "payload")
    sign_payload(tmp_path / "payload", tmp_path / "a.fpk", key.private, hash)
    payload = (tmp_path / "payload").read_bytes()
    verified = verify_box(tmp_path / "a.fpk", [key.public])
    assert verified.key_id == key.public.key_id
    assert verified.hash is hash
    assert (verified.payload_size, verified.signature_size) == (len(payload), 256)
    assert verified.box_size == (tmp_path / "a.fpk").stat().st_size
    assert verified.manifest == manifest == read_payload_manifest(tmp_path / "a.fpk")
    assert verified.payload_digest == hashlib.new(hash.value, payload).hexdigest()
    assert verified.development
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fpk", "payload"]


def test_the_bytes_are_those_of_the_original_container(tmp_path: Path, large_key: KeyPair) -> None:
    make_payload(tmp_path / "payload")
    sign_payload(tmp_path / "payload", tmp_path / "a.fpk", large_key.private, SignatureHash.SHA384)
    data = (tmp_path / "a.fpk").read_bytes()
    payload, separator, signature = data[: -512 - 25], data[-512 - 25 : -512], data[-512:]
    assert payload == (tmp_path / "payload").read_bytes()
    assert separator == b"---SIGNATURE_SEPARATOR---"
    large_key.public.rsa.verify(
        signature, payload, padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.MAX_LENGTH), hashes.SHA384()
    )


@pytest.mark.parametrize("hash", SignatureHash)
def test_openssl_and_tar_alone_can_do_it(tmp_path: Path, key: KeyPair, hash: SignatureHash) -> None:
    box = make_box(tmp_path, key.private, hash=hash)
    data = box.read_bytes()
    (tmp_path / "payload").write_bytes(data[: -256 - 25])
    (tmp_path / "signature").write_bytes(data[-256:])
    command: list[str | Path] = [
        "openssl",
        "dgst",
        f"-{hash}",
        "-verify",
        key.public_file,
        "-signature",
        tmp_path / "signature",
    ]
    options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max", "-sigopt", f"rsa_mgf1_md:{hash}"]
    result = subprocess.run([*command, *options, tmp_path / "payload"], capture_output=True, check=True, text=True)
    assert result.stdout == "Verified OK\n"
    archive = subprocess.run(["zstd", "-dcq", tmp_path / "payload"], capture_output=True, check=True).stdout
    listing = subprocess.run(["tar", "-t"], input=archive, capture_output=True, check=True).stdout
    assert listing.splitlines()[:2] == [b"chat/", b"chat/payload.json"]


def test_a_box_signed_with_openssl_verifies(tmp_path: Path, key: KeyPair) -> None:
    make_payload(tmp_path / "payload")
    command: list[str | Path] = [
        "openssl",
        "dgst",
        "-sha512",
        "-sign",
        key.private_file,
        "-out",
        tmp_path / "signature",
    ]
    options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max"]
    subprocess.run([*command, *options, tmp_path / "payload"], check=True)
    box = tmp_path / "a.fpk"
    box.write_bytes((tmp_path / "payload").read_bytes() + SEPARATOR + (tmp_path / "signature").read_bytes())
    assert verify_box(box, [key.public]).hash is SignatureHash.SHA512


@pytest.mark.parametrize("content", ["folder", "file"])
def test_boxes_of_the_original_verify_without_a_manifest(tmp_path: Path, key: KeyPair, content: str) -> None:
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "flatpack.toml").write_text('version = "0.0.1"\n')
    data = b"a single file\n" * 100
    if content == "folder":
        data = subprocess.run(["tar", "-c", "chat"], cwd=tmp_path, capture_output=True, check=True).stdout
    (tmp_path / "p").write_bytes(zstandard.compress(data))
    sign_payload(tmp_path / "p", tmp_path / "old.fpk", key.private)
    verified = verify_box(tmp_path / "old.fpk", [key.public])
    assert verified.manifest is None
    assert find_payload_manifest(tmp_path / "old.fpk") is None
    with pytest.raises(BoxError, match="has no payload"):
        read_payload_manifest(tmp_path / "old.fpk")


def test_the_right_one_of_many_keys_is_found(
    tmp_path: Path, key: KeyPair, other_key: KeyPair, large_key: KeyPair
) -> None:
    keys = [large_key.public, other_key.public, key.public]
    for pair in (key, other_key, large_key):
        box = make_box(tmp_path, pair.private, hash=SignatureHash.SHA512)
        assert verify_box(box, keys).key_id == pair.public.key_id


def test_a_signature_alone_tells_its_key_and_hash(box: Path, key: KeyPair, other_key: KeyPair) -> None:
    signature = box.read_bytes()[-256:]
    signers = possible_signers(signature, [other_key.public, key.public])
    assert [(signer.key.key_id, signer.hash) for signer in signers] == [(key.public.key_id, SignatureHash.SHA256)]


Change = Callable[[bytes], bytes]


def _flip(at: int) -> Change:
    def change(data: bytes) -> bytes:
        index = at % len(data)
        return data[:index] + bytes([data[index] ^ 0x10]) + data[index + 1 :]

    return change


TAMPERING: dict[str, tuple[Change, str]] = {
    "first byte": (_flip(0), "not a box"),
    "bit in the frame header": (_flip(5), "payload is damaged"),
    "bit in the middle": (_flip(100_000), "payload is damaged"),
    "last bit of the payload": (_flip(-256 - 26), "payload is damaged"),
    "bit in the separator": (_flip(-256 - 20), "something else stands after"),
    "first byte of the signature": (_flip(-256), "unknown key, or its signature is damaged"),
    "last byte of the signature": (_flip(-1), "unknown key, or its signature is damaged"),
    "one byte short": (lambda data: data[:-1], "no whole signature at its end: 255 bytes"),
    "signature gone": (lambda data: data[:-256], "no whole signature at its end: 0 bytes"),
    "separator gone, too": (lambda data: data[: -256 - 25], "no signature: it is a payload only"),
    "cut in the middle": (lambda data: data[:100_000], "cut off"),
    "cut in the header": (lambda data: data[:4], "cut off"),
    "empty": (lambda _: b"", "not a box"),
    "one byte more": (lambda data: data + b"\0", "no whole signature at its end: 257 bytes"),
    "a second signature": (lambda data: data + data[-256:], "unknown key, one of 4096 bits"),
    "signed twice over": (lambda data: data + SEPARATOR + data[-256:], "payload is damaged"),
    "something before the separator": (
        lambda data: data[: -256 - 25] + b"more" + data[-256 - 25 :],
        "payload is damaged",
    ),
    "something in front": (lambda data: b"\0" + data, "not a box"),
    "another file": (lambda _: b"version = 1\n" * 100, "not a box"),
    "signature of zeros": (lambda data: data[:-256] + bytes(256), "unknown key"),
    "signature of ones": (lambda data: data[:-256] + b"\xff" * 256, "unknown key"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering(tmp_path: Path, box: Path, key: KeyPair, what: str) -> None:
    change, message = TAMPERING[what]
    changed = tmp_path / "changed.fpk"
    changed.write_bytes(change(box.read_bytes()))
    with pytest.raises(BoxError, match=message) as caught:
        verify_box(changed, [key.public])
    assert caught.value.place and caught.value.place.file == str(changed)


def test_every_flipped_byte_is_refused(tmp_path: Path, key: KeyPair) -> None:
    data = make_box(tmp_path, key.private, [PayloadEntry("a", b"a")]).read_bytes()
    changed = tmp_path / "changed.fpk"
    for at in range(len(data)):
        changed.write_bytes(_flip(at)(data))
        with pytest.raises(BoxError):
            verify_box(changed, [key.public])


def test_an_unknown_key_is_refused_naming_those_tried(
    box: Path, key: KeyPair, other_key: KeyPair, large_key: KeyPair
) -> None:
    with pytest.raises(BoxError, match="unknown key") as caught:
        verify_box(box, [other_key.public, large_key.public])
    for pair in (other_key, large_key):
        assert pair.public.key_id[:12] in caught.value.message
        assert str(pair.public_file) in caught.value.message
    assert key.public.key_id[:12] not in caught.value.message
    with pytest.raises(BoxError, match="unknown key, one of 2048 bits"):
        verify_box(box, [large_key.public])
    with pytest.raises(BoxError, match="no public key"):
        verify_box(box, [])


def test_the_signature_of_another_box_does_not_fit(tmp_path: Path, box: Path, key: KeyPair) -> None:
    other = make_box(tmp_path, key.private, [PayloadEntry("a", b"a")], name="other.fpk")
    swapped = tmp_path / "swapped.fpk"
    swapped.write_bytes(box.read_bytes()[:-256] + other.read_bytes()[-256:])
    with pytest.raises(BoxError, match="payload is damaged"):
        verify_box(swapped, [key.public])


def test_the_separator_inside_the_payload_does_no_harm(tmp_path: Path, key: KeyPair) -> None:
    noise = os.urandom(3000)
    content = noise + SEPARATOR + noise[::-1] + SEPARATOR + os.urandom(231)
    box = make_box(tmp_path, key.private, [PayloadEntry("a", content)])
    assert box.read_bytes().count(SEPARATOR) == 3
    assert verify_box(box, [key.public]).manifest is not None


def test_what_is_signed_but_no_payload_is_refused(tmp_path: Path, key: KeyPair) -> None:
    """By hand, as ``sign_payload`` would not: only a key's owner can."""
    frame = zstandard.compress(b"x" * 1000)
    for content, message in (
        (frame + frame, "something stands between"),
        (frame[:-3], "its payload is none"),
    ):
        payload = tmp_path / "p"
        payload.write_bytes(content)
        command: list[str | Path] = ["openssl", "dgst", "-sha256", "-sign", key.private_file, "-out", tmp_path / "s"]
        options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max"]
        subprocess.run([*command, *options, payload], check=True)
        (tmp_path / "a.fpk").write_bytes(content + SEPARATOR + (tmp_path / "s").read_bytes())
        with pytest.raises(BoxError, match=message):
            verify_box(tmp_path / "a.fpk", [key.public])


def test_only_payloads_are_signed_and_a_failure_leaves_nothing(tmp_path: Path, box: Path, key: KeyPair) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"hello")
    for payload, message in ((text, "no payload"), (box, "signed already"), (tmp_path / "missing", "No such file")):
        with pytest.raises(BoxError, match=message):
            sign_payload(payload, tmp_path / "out" / "a.fpk", key.private)
    assert list((tmp_path / "out").iterdir()) == []


def test_signing_replaces_a_box_whole(tmp_path: Path, key: KeyPair) -> None:
    first = make_box(tmp_path, key.private)
    held = open(first, "rb")  # noqa: SIM115
    second = make_box(tmp_path, key.private, ENTRIES[:2])
    assert first == second
    assert verify_box(second, [key.public]).manifest is not None
    assert len(held.read()) > second.stat().st_size  # who reads the old one still has it
    held.close()


def test_listing_reads_without_a_key(box: Path) -> None:
    paths = [entry.path for entry in list_entries(box)]
    assert paths[:2] == ["chat", "chat/payload.json"]
    assert sorted(paths[2:]) == sorted(f"chat/{entry.path}" for entry in ENTRIES)


@pytest.mark.parametrize("reader", [read_payload_manifest, lambda box: list(list_entries(box))])
@pytest.mark.parametrize("what", ["missing", "text", "cut", "damaged"])
def test_reading_what_is_no_box(tmp_path: Path, box: Path, reader: Callable[[Path], object], what: str) -> None:
    path = tmp_path / "x.fpk"
    data = box.read_bytes()
    content = {"text": b"hello", "cut": data[:40], "damaged": _flip(5)(_flip(25)(data))}.get(what)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BoxError) as caught:
        reader(path)
    assert caught.value.place is None or caught.value.place.file == str(path)


def test_folders_are_searched_for_boxes(tmp_path: Path, box: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.fpk", "sub/a.fpk", "sub/notes.txt", ".hidden.fpk"):
        (tmp_path / name).write_bytes(b"")
    assert find_boxes([box, tmp_path]) == [box, tmp_path / "b.fpk", tmp_path / "sub" / "a.fpk"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(BoxError, match="no box in the folder"):
        find_boxes([tmp_path / "empty"])


MEASURE = """
import sys
from pathlib import Path
from flatpack_build.box import contents, container, keys, packing, extract
from flatpack_build.box.passphrase import Passphrase
import cryptography.hazmat.primitives.asymmetric.rsa, zstandard

def peak():  # of this process alone: ru_maxrss starts with what the parent had
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

folder, private, public = map(Path, sys.argv[1:])
key, trusted = keys.load_private_key(private, Passphrase()), [keys.load_public_key(public)]
before = peak()
with open(folder / "p", "wb") as file:
    packing.write_payload([packing.PayloadEntry("large.bin", folder / "large.bin")], file,
                          flatpack="chat", version="1", target="t", workers=2)
packed = peak()
print("pack", packed - before)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
container.sign_payload(folder / "p", folder / "a.fpk", key)
container.verify_box(folder / "a.fpk", trusted)
contents.read_payload_manifest(folder / "a.fpk")
extract.extract_verified(folder / "a.fpk", folder / "out", trusted)
print("verify", peak() - before, peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_stays_flat(tmp_path: Path, key: KeyPair) -> None:
    noise = os.urandom(20 * 2**20)  # longer than the window, so that zstd finds nothing to save
    with open(tmp_path / "large.bin", "wb") as file:
        for _ in range(15):
            file.write(noise)
    arguments: list[str | Path] = [sys.executable, "-c", MEASURE, tmp_path, key.private_file, key.public_file]
    output = subprocess.run(arguments, capture_output=True, check=True, text=True).stdout.split()
    assert (tmp_path / "a.fpk").stat().st_size > 300_000_000
    figures = dict(zip(output[::2], output[1::2], strict=False))
    assert int(figures["pack"]) < 160, output
    assert int(figures["verify"]) < 24, output
    assert int(output[-1]) < 160, output
