from __future__ import annotations

import dataclasses
import hashlib
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flatpack_build.box.keys import (
    DEVELOPMENT_MARK,
    generate_key,
    is_development,
    key_id,
    load_private_key,
    load_public_key,
    parse_public_key,
    public_half,
)
from flatpack_build.box.passphrase import Passphrase, passphrase_from
from flatpack_build.box.signature import SignatureHash, sign_digest
from flatpack_build.errors import KeyFileError
from tests.box.samples import KeyPair

SECRET = "correct horse"


def _openssl(*arguments: str | Path, **options: object) -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True).stdout


def _in_environment(secret: str) -> Passphrase:
    return Passphrase(environment={"FLATPACK_PASSPHRASE": secret})


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "signing.pem"
    generate_key(path, passphrase=SECRET.encode(), development=False, bits=2048)
    return path


def test_a_signing_key_is_encrypted_and_its_owners_alone(signing: Path) -> None:
    assert signing.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert stat.S_IMODE(signing.stat().st_mode) == 0o600
    public = signing.with_name("signing.pub.pem")
    assert public.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert sorted(path.name for path in signing.parent.iterdir()) == ["signing.pem", "signing.pub.pem"]
    assert not is_development(signing) and not is_development(public)
    key = load_private_key(signing, _in_environment(SECRET))
    assert key.key_id == load_public_key(public).key_id == public_half(key).key_id


def test_a_development_key_says_so_in_both_files(key: KeyPair) -> None:
    for path in (key.private_file, key.public_file):
        assert path.read_text().splitlines()[0] == DEVELOPMENT_MARK
        assert is_development(path)
    assert key.private.development and key.public.development


def test_the_size_is_4096_bits_unless_asked_otherwise(large_key: KeyPair, tmp_path: Path) -> None:
    assert large_key.public.rsa.key_size == 4096
    assert generate_key.__kwdefaults__ == {"bits": 4096}


def test_openssl_reads_our_keys_marked_or_not(key: KeyPair, signing: Path) -> None:
    _openssl("pkey", "-in", key.private_file, "-noout", "-check")
    _openssl("pkey", "-in", signing, "-passin", f"pass:{SECRET}", "-noout", "-check")
    for public in (key.public_file, signing.with_name("signing.pub.pem")):
        der = _openssl("pkey", "-pubin", "-in", public, "-outform", "DER")
        assert hashlib.sha256(der).hexdigest() == key_id(public.read_text()) == load_public_key(public).key_id


def test_openssl_keys_are_read(tmp_path: Path) -> None:
    encrypted, public = tmp_path / "private_key.pem", tmp_path / "public_key.pem"
    _openssl(
        "genpkey", "-algorithm", "RSA", "-aes256", "-pkeyopt", "rsa_keygen_bits:3072",
        "-pass", f"pass:{SECRET}", "-out", encrypted,
    )  # fmt: skip
    _openssl("rsa", "-pubout", "-in", encrypted, "-passin", f"pass:{SECRET}", "-out", public)
    key = load_private_key(encrypted, _in_environment(SECRET))
    assert key.rsa.key_size == 3072
    assert key.key_id == load_public_key(public).key_id
    traditional = tmp_path / "traditional.pem"
    _openssl(
        "rsa", "-in", encrypted, "-passin", f"pass:{SECRET}", "-traditional", "-aes256",
        "-passout", f"pass:{SECRET}", "-out", traditional,
    )  # fmt: skip
    traditional.chmod(0o600)
    assert load_private_key(traditional, _in_environment(SECRET)).key_id == key.key_id


def test_key_ids_need_no_cryptography(key: KeyPair) -> None:
    code = (
        "import sys; from pathlib import Path; from flatpack_build.box.keys import key_id;"
        f"print(key_id(Path({str(key.public_file)!r}).read_text())); assert 'cryptography' not in sys.modules"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert printed.strip() == key.public.key_id


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for existing in ("a.pem", "a.pub.pem"):
        file = tmp_path / existing
        file.write_text("precious")
        with pytest.raises(KeyFileError, match="never overwritten") as caught:
            generate_key(tmp_path / "a.pem", passphrase=b"x", development=False, bits=2048)
        assert caught.value.hint and caught.value.place and caught.value.place.file == str(file)
        assert file.read_text() == "precious"
        assert list(tmp_path.iterdir()) == [file]
        file.unlink()


def test_a_key_that_cannot_be_written_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="cannot be written"):
        generate_key(tmp_path / "file" / "a.pem", passphrase=b"x", development=False, bits=2048)


@pytest.mark.parametrize("bits", [1024, 2047, 20000])
def test_keys_of_a_strange_size_are_not_made(tmp_path: Path, bits: int) -> None:
    with pytest.raises(KeyFileError, match=f"{bits} bits"):
        generate_key(tmp_path / "a.pem", passphrase=b"x", development=False, bits=bits)


def test_a_signing_key_without_passphrase_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="needs a passphrase"):
        generate_key(tmp_path / "a.pem", passphrase=None, development=False)


def test_a_wrong_passphrase(signing: Path) -> None:
    with pytest.raises(KeyFileError, match="does not unlock") as caught:
        load_private_key(signing, _in_environment("wrong"))
    assert str(signing) in str(caught.value)


def test_no_passphrase_and_nobody_to_ask(signing: Path) -> None:
    with pytest.raises(KeyFileError, match="nobody to ask") as caught:
        load_private_key(signing, Passphrase())
    assert "FLATPACK_PASSPHRASE" in caught.value.hint and "--passphrase-file" in caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_private_key_that_others_can_read_is_refused(signing: Path, mode: int) -> None:
    signing.chmod(mode)
    try:
        with pytest.raises(KeyFileError, match="others can read") as caught:
            load_private_key(signing, _in_environment(SECRET))
        assert caught.value.hint == f"chmod 600 {signing}"
    finally:
        signing.chmod(0o600)


def test_a_development_key_may_be_readable(tmp_path: Path, key: KeyPair) -> None:
    copy = tmp_path / "d.pem"
    copy.write_bytes(key.private_file.read_bytes())
    copy.chmod(0o644)
    assert load_private_key(copy, Passphrase()).key_id == key.public.key_id


def test_other_and_small_keys_are_refused_by_name(tmp_path: Path) -> None:
    small, curve, edwards = tmp_path / "small.pem", tmp_path / "curve.pem", tmp_path / "ed.pem"
    _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", small)
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", curve)
    _openssl("genpkey", "-algorithm", "ED25519", "-out", edwards)
    for private, message in ((small, "1024 bits"), (curve, "another kind of key"), (edwards, "another kind of key")):
        private.chmod(0o600)
        public = private.with_suffix(".pub.pem")
        _openssl("pkey", "-in", private, "-pubout", "-out", public)
        with pytest.raises(KeyFileError, match=message):
            load_private_key(private, Passphrase())
        with pytest.raises(KeyFileError, match=message):
            load_public_key(public)


def test_files_that_are_no_public_key(tmp_path: Path, key: KeyPair) -> None:
    text = key.public_file.read_text()
    body = text.splitlines()[2]
    older = _openssl("rsa", "-pubin", "-in", key.public_file, "-RSAPublicKey_out").decode()
    for content, message in (
        (b"", "no key in PEM form"),
        (b"\xff\xfe", "no key in PEM form"),
        (b"x" * 70_000, "too long"),
        (key.private_file.read_bytes(), "this is a private key"),
        (text.encode() * 2, "more than one key"),
        (older.encode(), "PKCS#1"),
        (text.replace(body, "A" * 64).encode(), "damaged"),
        (text.replace(body, body[:-1] + "!").encode(), "damaged"),
        (text.replace("PUBLIC KEY", "CERTIFICATE").encode(), "no public key but a certificate"),
    ):
        path = tmp_path / "k.pem"
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match=message) as caught:
            load_public_key(path)
        assert caught.value.place and caught.value.place.file == str(path)
    with pytest.raises(KeyFileError, match="cannot be read") as caught:
        load_public_key(tmp_path / "missing.pem")
    assert "keygen" in caught.value.hint
    with pytest.raises(KeyFileError, match="no private key"):
        load_private_key(key.public_file, Passphrase())
    (tmp_path / "k.pem").write_text(text[text.index("-----BEGIN") :])
    (tmp_path / "k.pem").chmod(0o644)
    with pytest.raises(KeyFileError, match="no private key"):  # and not that others can read it
        load_private_key(tmp_path / "k.pem", Passphrase())
    with pytest.raises(KeyFileError, match="there is no key"):
        key_id("hello")


def test_windows_line_ends_do_not_change_the_id(key: KeyPair) -> None:
    text = key.public_file.read_text().replace("\n", "\r\n")
    assert parse_public_key(text).key_id == key_id(text) == key.public.key_id
    assert parse_public_key(text).development


def test_sources_of_a_passphrase(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"from file\r\nsecond line\n")
    environment = {"FLATPACK_PASSPHRASE": "from environment"}
    assert Passphrase(file=file, environment=environment).read("k") == b"from file"
    assert Passphrase(environment=environment, ask=lambda _: "asked").read("k") == b"from environment"
    reading, writing = os.pipe()
    os.write(writing, b"from pipe")
    os.close(writing)
    assert Passphrase(descriptor=reading, environment=environment).read("k") == b"from pipe"
    os.close(reading)
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "åäö"

    assert Passphrase(ask=ask).read("keys/signing.pem", confirm=True) == "åäö".encode()
    assert len(prompts) == 2 and "keys/signing.pem" in prompts[0]


def test_passphrases_that_are_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"\nx")
    long = tmp_path / "long"
    long.write_bytes(b"x" * 5000)
    answers = iter(["one", "two"])
    for passphrase, message in (
        (Passphrase(file=empty), "is empty"),
        (Passphrase(file=long), "longer than 1023 bytes"),
        (Passphrase(file=tmp_path / "missing"), "cannot be read"),
        (Passphrase(descriptor=987), "file descriptor 987"),
        (Passphrase(environment={"FLATPACK_PASSPHRASE": ""}), "is empty"),
        (Passphrase(ask=lambda _: next(answers)), "differ"),
    ):
        with pytest.raises(KeyFileError, match=message):
            passphrase.read("k", confirm=True)


def test_a_person_may_try_again(signing: Path) -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return SECRET if len(prompts) == 3 else "wrong"

    assert load_private_key(signing, Passphrase(ask=ask)).rsa.key_size
    assert "wrong" not in prompts[0] and "wrong" in prompts[1] and prompts[1] == prompts[2]
    with pytest.raises(KeyFileError, match="does not unlock"):
        load_private_key(signing, Passphrase(ask=lambda prompt: prompts.append(prompt) or "wrong"))  # type: ignore[func-returns-value]
    assert len(prompts) == 6
    with pytest.raises(KeyFileError, match="does not unlock"):
        load_private_key(signing, Passphrase(environment={"FLATPACK_PASSPHRASE": "wrong"}, ask=ask))
    assert len(prompts) == 6


def test_builds_are_not_told_of_options_that_they_lack() -> None:
    for options in (True, False):
        with pytest.raises(KeyFileError) as caught:
            Passphrase(options=options).read("k")
        assert ("--passphrase-file" in caught.value.hint) == options


def test_asking_on_a_terminal_does_not_show_what_is_typed(signing: Path) -> None:
    code = (
        "import os; from pathlib import Path; from flatpack_build.box.keys import load_private_key;"
        "from flatpack_build.box.passphrase import passphrase_from;"
        f"print('id', load_private_key(Path({str(signing)!r}), passphrase_from({{}})).key_id)"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    seen = b""
    while b"Passphrase for" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, SECRET.encode() + b"\n")
    while b"id " not in seen:
        seen += os.read(terminal, 1000)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert SECRET.encode() not in seen


def test_a_passphrase_does_not_show_in_its_text() -> None:
    assert SECRET not in repr(_in_environment(SECRET))


def test_a_damaged_private_key_signs_nothing(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    pair = generate_key(tmp_path / "key.pem", passphrase=None, development=True, bits=2048)
    key = load_private_key(pair.private, Passphrase())
    numbers = key.rsa.private_numbers()
    damaged = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d ^ 2, numbers.dmp1 ^ 2, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    with pytest.raises(KeyFileError, match="damaged"):
        sign_digest(bytes(32), dataclasses.replace(key, rsa=damaged), SignatureHash.SHA256)


def test_the_passphrase_file_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    environment = {"FLATPACK_PASSPHRASE_FILE": str(tmp_path / "secret")}
    assert passphrase_from(environment).read("x") == b"from a file"
    assert passphrase_from(environment | {"FLATPACK_PASSPHRASE": "nearer"}).read("x") == b"nearer"
    (tmp_path / "other").write_text("named\n")
    assert passphrase_from(environment, file=tmp_path / "other").read("x") == b"named"
    with pytest.raises(KeyFileError, match="cannot be read"):
        passphrase_from({"FLATPACK_PASSPHRASE_FILE": str(tmp_path / "missing")}).read("x")
