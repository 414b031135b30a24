from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from flatpack_build.errors import KeyFileError, VerificationError
from flatpack_build.params import VerifyParams
from flatpack_build.steps import verify
from tests.gguf_files import gguf

DATA = b"weights" * 1000


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def other() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def params(data: bytes = DATA, *keys: str, kind: str = "any", hash_name: str = "sha256") -> VerifyParams:
    return VerifyParams("model.gguf", hashlib.sha256(data).hexdigest(), kind, keys, hash_name)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def sign(key: rsa.RSAPrivateKey, data: bytes, algorithm: hashes.HashAlgorithm, salt: int | None = None) -> bytes:
    length = padding.PSS.MAX_LENGTH if salt is None else salt
    return key.sign(data, padding.PSS(padding.MGF1(algorithm), length), algorithm)


def test_what_is_right_is_handed_on(tmp_path: Path, out: Path) -> None:
    file = write(tmp_path / "in", DATA)
    verify.run(params(), {"file": file}, out)
    assert [path.name for path in out.iterdir()] == ["model.gguf"]
    assert (out / "model.gguf").read_bytes() == DATA
    assert file.read_bytes() == DATA


def test_another_digest(tmp_path: Path, out: Path) -> None:
    with pytest.raises(VerificationError, match=f"(?s){params().sha256}.*{hashlib.sha256(b'x').hexdigest()}"):
        verify.run(params(), {"file": write(tmp_path / "in", b"x")}, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("salt", [None, 0, 32])
def test_signed(
    tmp_path: Path, out: Path, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey, name: str, salt: int | None
) -> None:
    algorithm = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[name]
    signature = write(tmp_path / "sig", sign(key, DATA, algorithm, salt))
    inputs = {"file": write(tmp_path / "in", DATA), "signature": signature}
    verify.run(params(DATA, pem(other), pem(key), hash_name=name), inputs, out)
    assert (out / "model.gguf").exists()


def test_signed_by_openssl(tmp_path: Path, out: Path, key: rsa.RSAPrivateKey) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    file, secret, signature = write(tmp_path / "in", DATA), write(tmp_path / "key", private), tmp_path / "sig"
    options = ["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sign", str(secret), "-out", str(signature), str(file)]
    subprocess.run(["openssl", "dgst", *options], check=True, capture_output=True)
    verify.run(params(DATA, pem(key)), {"file": file, "signature": signature}, out)
    assert (out / "model.gguf").read_bytes() == DATA


def test_signatures_that_do_not_hold(
    tmp_path: Path, out: Path, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey
) -> None:
    file = write(tmp_path / "in", DATA)
    good = sign(key, DATA, hashes.SHA256())
    pkcs1 = key.sign(DATA, padding.PKCS1v15(), hashes.SHA256())
    wrong = {
        "by another key": sign(other, DATA, hashes.SHA256()),
        "over other bytes": sign(key, DATA + b"x", hashes.SHA256()),
        "with another hash": sign(key, DATA, hashes.SHA384()),
        "with another padding": pkcs1,
        "with a bit turned": bytes([good[0] ^ 1]) + good[1:],
        "empty": b"",
        "too long": good + b"\n",
    }
    for what, data in wrong.items():
        inputs = {"file": file, "signature": write(tmp_path / "sig", data)}
        with pytest.raises(VerificationError, match="the signature is not by the trusted key"):
            verify.run(params(DATA, pem(key)), inputs, out)
        assert list(out.iterdir()) == [], what
    with pytest.raises(VerificationError, match="which no signature is"):
        inputs = {"file": file, "signature": write(tmp_path / "sig", bytes(100_000))}
        verify.run(params(DATA, pem(key)), inputs, out)
    with pytest.raises(VerificationError, match="signature is missing"):
        verify.run(params(DATA, pem(key)), {"file": file}, out)


def test_keys_that_are_none(tmp_path: Path, out: Path, key: rsa.RSAPrivateKey) -> None:
    inputs = {"file": write(tmp_path / "in", DATA), "signature": write(tmp_path / "sig", b"x")}
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    for text, why in (
        ("nonsense", "cannot be read"),
        (private, "this is a private key"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "no RSA key"),
        (pem(rsa.generate_private_key(65537, 1024)), "1024 bits: too weak"),
    ):
        with pytest.raises(KeyFileError, match=why):
            verify.run(params(DATA, text), inputs, out)


def test_gguf(tmp_path: Path, out: Path) -> None:
    whole = gguf()
    verify.run(params(whole, kind="gguf"), {"file": write(tmp_path / "a", whole)}, out)
    for data, why in ((whole[:-1], "model.gguf: cut short"), (b"x" * 500, "model.gguf: not a usable GGUF: at byte 0")):
        with pytest.raises(VerificationError, match=why):
            verify.run(params(data, kind="gguf"), {"file": write(tmp_path / "b", data)}, out)


# ModelProto: ir_version 8, producer "t", a graph of four bytes, one operator set.
ONNX = b"\x08\x08" + b"\x12\x01t" + b"\x3a\x04\x12\x02ab" + b"\x42\x02\x10\x11"


def test_onnx(tmp_path: Path, out: Path) -> None:
    verify.run(params(ONNX, kind="onnx"), {"file": write(tmp_path / "a", ONNX)}, out)
    bad = {
        b"": "no format version",
        ONNX[:-1]: "cut short: field 8 ends at byte 15, the file has 14",
        ONNX[:5]: "no graph",
        ONNX[:-4]: "no operator set",
        b"\x08\x00" + ONNX: "version 0",
        ONNX + b"\x3a\x00": "more than one graph",
        b"GGUF" + ONNX: "no field",
        b"\xff" * 20: "more than ten bytes",
        ONNX + b"\x08": "ends inside a number",
        b"\x0a\x01x" + ONNX: "no field 1 of wire type 2",
        gguf(): "no field",
    }
    for data, why in bad.items():
        with pytest.raises(VerificationError, match=why):
            verify.run(params(data, kind="onnx"), {"file": write(tmp_path / "b", data)}, out)


def test_a_real_onnx_model(tmp_path: Path, out: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    data = helper.make_model(graph).SerializeToString()
    verify.run(params(data, kind="onnx"), {"file": write(tmp_path / "a", data)}, out)
    for length in range(len(data)):
        with pytest.raises(VerificationError):
            verify.run(params(data[:length], kind="onnx"), {"file": write(tmp_path / "b", data[:length])}, out)


@pytest.mark.parametrize(("kind", "hash_name"), [("zip", "sha256"), ("any", "md5")])
def test_unknown_checks_are_refused(tmp_path: Path, out: Path, kind: str, hash_name: str) -> None:
    with pytest.raises(VerificationError):
        verify.run(params(DATA, kind=kind, hash_name=hash_name), {"file": write(tmp_path / "in", DATA)}, out)
