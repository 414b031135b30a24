"""RSA keys in PEM files: making, loading, naming them. Knows no boxes and no trust.

``cryptography`` is imported inside the functions that use it: key ids are needed where nothing is signed.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flatpack_build.box.passphrase import Passphrase, WrongPassphraseError
from flatpack_build.errors import KeyFileError, Place

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

DEVELOPMENT_MARK = "# flatpack-build development key: for trying things out, never for shipping"
MIN_BITS = 2048
MAX_BITS = 16384

_MAX_FILE = 64 * 1024
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class PublicKey:
    """A key that boxes are verified with. ``source`` says where it came from, for messages."""

    key_id: str
    rsa: RSAPublicKey
    source: str
    development: bool

    @property
    def size(self) -> int:
        """Bytes of a signature."""
        return (self.rsa.key_size + 7) // 8

    def __str__(self) -> str:
        return f"{self.key_id[:12]} ({self.source})" if self.source else self.key_id[:12]


@dataclass(frozen=True, repr=False)
class PrivateKey:
    """A key that boxes are signed with."""

    key_id: str
    rsa: RSAPrivateKey
    source: str
    development: bool


@dataclass(frozen=True)
class GeneratedKey:
    """The two files of a new key, and its id."""

    private: Path
    public: Path
    key_id: str


def key_id(pem: str) -> str:
    """The sha256 (hexadecimal) of the public key's DER form, ``SubjectPublicKeyInfo``. Raises ``KeyFileError``."""
    kind, body = _only_block(pem, "")
    if kind != "PUBLIC KEY":
        raise _wrong_kind(kind, "")
    return hashlib.sha256(body).hexdigest()


def is_development(path: Path) -> bool:
    """Whether the key (private or public) says that it is one for trying things out. Raises ``KeyFileError``."""
    return _is_marked(read_key(path))


def generate_key(path: Path, *, passphrase: bytes | None, development: bool, bits: int = 4096) -> GeneratedKey:
    """Write a new private key to ``path`` and its public key to ``<stem>.pub.pem`` beside it.

    A development key is not encrypted and says what it is; any other needs a ``passphrase``. Existing files are never
    replaced. Raises ``KeyFileError``.
    """
    if not development and not passphrase:
        raise KeyFileError(
            "a signing key needs a passphrase", hint="or make a key for trying things out with --development"
        )
    if not MIN_BITS <= bits <= MAX_BITS:
        raise KeyFileError(f"a key of {bits} bits cannot be made", hint=f"{MIN_BITS} to {MAX_BITS}; 4096 is usual")
    require_free(path)

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase and not development:
        encryption = serialization.BestAvailableEncryption(passphrase)
    mark = f"{DEVELOPMENT_MARK}\n".encode() if development else b""
    private_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return write_pair(path, mark + private_pem, mark + public_pem)


def write_pair(path: Path, private_pem: bytes, public_pem: bytes) -> GeneratedKey:
    """Write a private key to ``path`` and its public key beside it, or neither. Raises ``KeyFileError``."""
    public = public_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, private_pem, 0o600)
        try:
            _write_new(public, public_pem, 0o644)
        except BaseException:
            path.unlink()
            raise
    except OSError as error:
        raise KeyFileError(f"the key cannot be written: {error.strerror}", place=Place(str(path))) from None
    return GeneratedKey(path, public, key_id(public_pem.decode()))


def public_path(path: Path) -> Path:
    """Where the public key of the private key at ``path`` is written."""
    return path.with_name(f"{path.stem}.pub.pem")


def require_free(path: Path) -> None:
    """Raise ``KeyFileError`` where a new pair of keys would replace a file."""
    for file in (path, public_path(path)):
        if os.path.lexists(file):
            raise _exists(file)


def load_public_key(path: Path) -> PublicKey:
    """Raises ``KeyFileError`` when ``path`` is no RSA public key in PEM of at least 2048 bits."""
    return parse_public_key(read_key(path), source=str(path))


def parse_public_key(pem: str, *, source: str = "") -> PublicKey:
    """A public key from its text. Raises ``KeyFileError``."""
    kind, body = _only_block(pem, source)
    if kind != "PUBLIC KEY":
        raise _wrong_kind(kind, source)

    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    place = Place(source) if source else None
    try:
        key = serialization.load_der_public_key(body)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError("the public key is damaged, or of an unknown kind", place=place) from None
    rsa_key = _public_rsa(key, place)
    # One key, one id: another encoding of the same numbers would get another.
    if body != rsa_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo):
        raise KeyFileError("the public key is not encoded in the usual way", place=place)
    return PublicKey(hashlib.sha256(body).hexdigest(), rsa_key, source, _is_marked(pem))


def load_private_key(path: Path, passphrase: Passphrase) -> PrivateKey:
    """Unlock a private key; ``passphrase`` is read only where the key is encrypted.

    Raises ``KeyFileError``, also where others than the owner may read the file (a development key excepted).
    """
    place = Place(str(path))
    pem = read_key(path, private=True)
    kind, _ = _only_block(pem, str(path), decode=False)
    if "PRIVATE KEY" not in kind:
        raise KeyFileError("this is no private key", place=place, hint="the private key lies beside the .pub.pem file")
    encrypted = kind == "ENCRYPTED PRIVATE KEY" or "Proc-Type: 4,ENCRYPTED" in pem
    if encrypted:
        return passphrase.unlock(str(path), lambda password: _private_rsa(pem, password, place))
    return _private_rsa(pem, None, place)


def _private_rsa(pem: str, password: bytes | None, place: Place) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    try:
        # Testing the primes of the user's own key takes a quarter of a second, more than most builds that sign. What it
        # guards against, a signature by a damaged key, is caught where the signature is made (signature.sign_digest).
        key = serialization.load_pem_private_key(pem.encode(), password, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm as error:
        raise KeyFileError(f"the private key is of an unknown kind: {error}", place=place) from None
    except (ValueError, TypeError):
        if password:
            raise WrongPassphraseError(
                "the passphrase does not unlock the private key", place=place, hint="or the file is damaged"
            ) from None
        raise KeyFileError("the private key is damaged, or of an unknown kind", place=place) from None
    if not isinstance(key, RSAPrivateKey):
        raise _not_rsa(place)
    public = _public_rsa(key.public_key(), place)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PrivateKey(hashlib.sha256(der).hexdigest(), key, place.file, _is_marked(pem))


def public_half(key: PrivateKey) -> PublicKey:
    """The public key that verifies what ``key`` signs."""
    return PublicKey(key.key_id, key.rsa.public_key(), key.source, key.development)


def _public_rsa(key: object, place: Place | None) -> RSAPublicKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if not isinstance(key, RSAPublicKey):
        raise _not_rsa(place)
    if not MIN_BITS <= key.key_size <= MAX_BITS:
        raise KeyFileError(
            f"the RSA key has {key.key_size} bits; {MIN_BITS} to {MAX_BITS} are accepted",
            place=place,
            hint="make a key of 4096 bits with 'flatpack keygen'",
        )
    return key


def _not_rsa(place: Place | None) -> KeyFileError:
    return KeyFileError("boxes are signed with RSA keys; this is another kind of key", place=place)


def read_key(path: Path, *, private: bool = False) -> str:
    """The text of a key file. Raises ``KeyFileError``, for a ``private`` one also where others may read it (a development
    key excepted)."""
    place = Place(str(path))
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        missing = error.errno == errno.ENOENT
        raise KeyFileError(
            f"the key cannot be read: {error.strerror}",
            place=place,
            hint="'flatpack keygen' makes a key" if missing else "",
        ) from None
    if len(data) > _MAX_FILE:
        raise KeyFileError("the file is too long for a key", place=place)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise KeyFileError(
            "the file is no key in PEM form", place=place, hint="openssl turns DER into PEM: add -inform DER"
        ) from None
    open_to_others = os.name == "posix" and stat.S_IMODE(mode) & 0o077
    # Of a public key, given by mistake, nobody should be told to hide it.
    if private and open_to_others and "PRIVATE KEY" in text and not _is_marked(text):
        raise KeyFileError(
            f"others can read the private key (mode {stat.S_IMODE(mode):04o})",
            place=place,
            hint=f"chmod 600 {path}",
        )
    return text


def _is_marked(pem: str) -> bool:
    return DEVELOPMENT_MARK in pem.partition("-----BEGIN ")[0].splitlines()


def _only_block(pem: str, source: str, *, decode: bool = True) -> tuple[str, bytes]:
    """The label and the decoded bytes of the one PEM block in a text."""
    place = Place(source) if source else None
    blocks = _BLOCK.findall(pem)
    if not blocks:
        raise KeyFileError("there is no key in PEM form in it", place=place)
    if len(blocks) > 1:
        raise KeyFileError("there is more than one key in it", place=place, hint="one key a file")
    kind, body = blocks[0]
    if not decode:
        return kind, b""
    try:
        return kind, base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error:
        raise KeyFileError("the PEM text of the key is damaged", place=place) from None


def _wrong_kind(kind: str, source: str) -> KeyFileError:
    place = Place(source) if source else None
    if "PRIVATE KEY" in kind:
        return KeyFileError("this is a private key", place=place, hint="give the public one, <name>.pub.pem")
    if kind == "RSA PUBLIC KEY":
        hint = "openssl rsa -RSAPublicKey_in -in FILE -pubout"
        return KeyFileError("this public key is in the older PKCS#1 form", place=place, hint=hint)
    return KeyFileError(f"this is no public key but a {kind.lower()}", place=place)


def _exists(path: Path) -> KeyFileError:
    return KeyFileError(
        "there is a file already, and a key is never overwritten",
        place=Place(str(path)),
        hint="choose another name, or move the old pair of keys away",
    )


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Like ``fs.atomic_write``, but refuses to replace, however many do this at once, and is never more readable."""
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            raise _exists(path) from None
        except OSError:
            # No hard links here (FAT, some network file systems): reserve the name, then take it.
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                raise _exists(path) from None
            os.replace(name, path)
            return
        os.unlink(name)
    except BaseException:
        if os.path.lexists(name):
            os.unlink(name)
        raise
