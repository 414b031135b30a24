"""Signatures of the OpenSSF kind, judged by the command of the package that defines them."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flatpack_build.box.keys import generate_key, is_development
from flatpack_build.box.model_signing import ModelSigner, generate_ec_key, load_ec_key, sign_file
from flatpack_build.box.passphrase import Passphrase
from flatpack_build.cli.keys import keygen
from flatpack_build.digest import Digest
from flatpack_build.errors import KeyFileError

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("model_signing") is None or importlib.util.find_spec("OpenSSL") is None,
    reason="the packages model-signing and pyopenssl are not installed (pip install 'flatpack-build[dev]')",
)


def verify(file: Path, signature: Path, key: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "model_signing", "verify", "key"]
    arguments: list[str | Path] = [file, "--signature", signature, "--public_key", key]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def signed(tmp_path: Path, private: Path, passphrase: Passphrase | None = None) -> tuple[Path, Path]:
    box = tmp_path / "chat-0.1.0-pi5.fpk"
    box.write_bytes(b"everything in the box" * 1000)
    bundle = sign_file(box.name, Digest.of_file(box), load_ec_key(private, passphrase or Passphrase()))
    signature = tmp_path / "chat-0.1.0-pi5.fpk.model.sig"
    signature.write_bytes(bundle)
    return box, signature


@needs_package
def test_the_packages_own_command_verifies_it(tmp_path: Path) -> None:
    key = generate_ec_key(tmp_path / "ec.pem", passphrase=None, development=True)
    box, signature = signed(tmp_path, key.private)
    done = verify(box, signature, key.public)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "WARNING" not in done.stdout
    box.write_bytes(box.read_bytes()[:-1] + b"X")
    assert verify(box, signature, key.public).returncode != 0


@needs_package
def test_it_is_refused_with_another_key_and_holds_under_another_name(tmp_path: Path) -> None:
    key = generate_ec_key(tmp_path / "ec.pem", passphrase=None, development=True)
    other = generate_ec_key(tmp_path / "other.pem", passphrase=None, development=True)
    box, signature = signed(tmp_path, key.private)
    assert verify(box, signature, other.public).returncode != 0
    assert verify(box.rename(tmp_path / "renamed.fpk"), signature, key.public).returncode == 0


@needs_package
@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1", "secp521r1"])
def test_keys_of_openssl_do(tmp_path: Path, curve: str) -> None:
    private, public = tmp_path / "ec.pem", tmp_path / "ec.pub.pem"
    openssl("ecparam", "-name", curve, "-genkey", "-out", private)  # with a block of parameters before the key
    openssl("ec", "-in", private, "-pubout", "-out", public)
    private.chmod(0o600)
    box, signature = signed(tmp_path, private)
    done = verify(box, signature, public)
    assert done.returncode == 0, done.stdout + done.stderr


def test_openssl_verifies_the_envelope(tmp_path: Path) -> None:
    key = generate_ec_key(tmp_path / "ec.pem", passphrase=None, development=True)
    box, signature = signed(tmp_path, key.private)
    envelope = json.loads(signature.read_text())["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    (tmp_path / "signed").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    openssl("dgst", "-sha256", "-verify", key.public, "-signature", tmp_path / "sig", tmp_path / "signed")
    statement = json.loads(payload)
    assert statement["predicate"]["resources"] == [
        {"name": ".", "algorithm": "sha256", "digest": hashlib.sha256(box.read_bytes()).hexdigest()}
    ]
    assert statement["subject"][0]["name"] == box.name


def test_an_encrypted_key_is_named_without_its_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate_ec_key(tmp_path / "ec.pem", passphrase=b"secret", development=False)
    signer = ModelSigner(key.private)
    assert signer.key_id == key.key_id
    monkeypatch.setenv("FLATPACK_PASSPHRASE", "wrong")
    with pytest.raises(KeyFileError, match="does not unlock"):
        signer.sign("a", Digest.of_bytes(b"a"))
    monkeypatch.setenv("FLATPACK_PASSPHRASE", "secret")
    assert json.loads(signer.sign("a", Digest.of_bytes(b"a")))["dsseEnvelope"]


def test_a_signer_without_a_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no key to sign models with") as caught:
        _ = ModelSigner(tmp_path / "none.pem").key_id
    assert "keygen --ec" in caught.value.hint


def test_other_keys_and_no_keys_are_refused(tmp_path: Path) -> None:
    rsa = generate_key(tmp_path / "rsa.pem", passphrase=None, development=True, bits=2048)
    ec = generate_ec_key(tmp_path / "ec.pem", passphrase=None, development=True)
    openssl("ecparam", "-name", "secp256k1", "-genkey", "-noout", "-out", tmp_path / "k1.pem")
    (tmp_path / "k1.pem").chmod(0o600)
    (tmp_path / "text.pem").write_text("hello")
    (tmp_path / "text.pem").chmod(0o600)
    ec.public.chmod(0o600)
    for path, message in (
        (rsa.private, "another kind of key"),
        (tmp_path / "k1.pem", "another kind of key"),
        (tmp_path / "text.pem", "holds no private key"),
        (ec.public, "holds no private key"),
    ):
        with pytest.raises(KeyFileError, match=message):
            load_ec_key(path, Passphrase())


def test_keygen_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(keygen, ["--ec", "--development"])
    assert done.exit_code == 0, done.output
    assert is_development(tmp_path / "keys/model-signing.pem")
    assert (tmp_path / "keys/model-signing.pem").stat().st_mode & 0o777 == 0o600
    openssl("pkey", "-pubin", "-in", tmp_path / "keys/model-signing.pub.pem", "-noout")
    again = CliRunner().invoke(keygen, ["--ec", "--development"])
    assert isinstance(again.exception, KeyFileError)
    done = CliRunner().invoke(keygen, ["--ec", "own.pem"], env={"FLATPACK_PASSPHRASE": "secret"})
    assert done.exit_code == 0, done.output
    assert "ENCRYPTED" in (tmp_path / "own.pem").read_text()
