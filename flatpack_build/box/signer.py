"""The key that a build signs its boxes with: named without being unlocked, unlocked once when there is something to sign."""

from __future__ import annotations

import os
import threading
from functools import cached_property
from pathlib import Path

from flatpack_build.box.keys import PrivateKey, is_development, key_id, load_private_key, public_half
from flatpack_build.box.passphrase import passphrase_from
from flatpack_build.box.signature import SignatureHash
from flatpack_build.digest import Digest
from flatpack_build.errors import KeyFileError, Place


class KeySigner:
    """Signs with the private key at ``private``, whose public half lies at ``public``. May be used from many threads."""

    hash_name = SignatureHash.SHA256.value

    def __init__(self, private: Path, public: Path) -> None:
        self._private = private
        self._public = public
        self._mutex = threading.Lock()
        self._unlocked: PrivateKey | None = None
        self._refused: KeyFileError | None = None

    @cached_property
    def key_id(self) -> str:
        """The id of the key, from its public half: no passphrase is needed. Raises ``KeyFileError``."""
        if not self._private.exists():
            raise KeyFileError(
                "there is no key to sign the boxes with",
                place=Place(os.fspath(self._private)),
                hint="make one for trying things out: flatpack keygen --development; or name yours: "
                'signing_key = "..." under [tool.flatpack-build] in pyproject.toml, or FLATPACK_SIGNING_KEY',
            )
        try:
            return key_id(self._public.read_text())
        except FileNotFoundError:
            return self._key().key_id
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(
                f"the public key cannot be read: {error}", place=Place(os.fspath(self._public))
            ) from error

    @cached_property
    def development(self) -> bool:
        """Whether the key says that it is only for trying things out."""
        return is_development(self._private)

    def sign(self, payload: Path, box: Path) -> Digest:
        """Write ``box``: the payload and its signature; say the sha256 of it all. Raises ``BoxError``, ``KeyFileError``."""
        from flatpack_build.box.container import sign_payload  # brings cryptography: not on the hot path

        signed = sign_payload(payload, box, self._key(), durable=False)
        assert signed.digest is not None, "it signs with SHA-256"
        return signed.digest

    def _key(self) -> PrivateKey:
        with self._mutex:  # whoever comes first asks for the passphrase, once
            if self._refused is not None:
                raise self._refused
            if self._unlocked is None:
                try:
                    self._unlocked = self._unlock()
                except KeyFileError as error:
                    self._refused = error
                    raise
            return self._unlocked

    def _unlock(self) -> PrivateKey:
        key = load_private_key(self._private, passphrase_from(os.environ, options=False))
        if self._public.exists() and key_id(self._public.read_text()) != public_half(key).key_id:
            raise KeyFileError(
                "this public key does not belong to the signing key",
                place=Place(os.fspath(self._public)),
                hint=f"make it again: openssl rsa -in {self._private} -pubout -out {self._public}",
            )
        return key
