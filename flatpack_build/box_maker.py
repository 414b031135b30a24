"""From payloads to boxes: signs, once for each key, and puts the box and its companions into the folder of boxes.

Is told what was packed; knows no graph, no staleness of actions and no terminal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flatpack_build.companions import PAYLOAD_NAME, Companions, Making, ModelSigner
from flatpack_build.digest import ActionKey, Digest, canonical_json
from flatpack_build.errors import StoreError
from flatpack_build.events import Listener, listening
from flatpack_build.fs import remedy, replace_with_link, temporary_folder
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.protocol import ActionResult
from flatpack_build.tree import Tree, TreeEntry

_BOX = "box.fpk"


class Signer(Protocol):
    """Makes boxes out of payloads. Its key never leaves it."""

    @property
    def key_id(self) -> str: ...

    @property
    def hash_name(self) -> str: ...

    def sign(self, payload: Path, box: Path) -> Digest:
        """Write ``box``: the payload and its signature; say the sha256 of it all. Raises ``FlatpackError``."""


@dataclass(frozen=True)
class Packed:
    """What the action ``pack`` made, for a box that is to be called ``file_name``."""

    pack: str
    file_name: str
    inside: Tree
    actions: Mapping[str, ActionResult]
    """The results of all actions behind it, the pack's included."""

    @property
    def payload(self) -> TreeEntry:
        entry = self.inside.file(PAYLOAD_NAME)
        assert entry is not None, "pack always makes a payload"
        return entry

    def made_into(self, box: Digest) -> Making:
        return Making(self.file_name, box, self.payload.digest, self.inside, self.actions)


@dataclass(frozen=True)
class StandingBox:
    """A box that stands in the folder of boxes, and what it and its companions are kept by in the cache."""

    path: Path
    keys: tuple[ActionKey, ...]


class BoxMaker:
    """Makes the boxes of one build, in ``folder``. Everywhere ``digests`` are those of the box's flatpack.

    The signers are asked only when there is a box to judge or to make; without ``model_signer`` boxes get no signature of
    that kind. ``clock`` gives seconds since 1970.
    """

    def __init__(
        self,
        runner: Runner,
        folder: Path,
        *,
        signer: Signer,
        model_signer: ModelSigner | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runner = runner
        self._folder = folder
        self._signer = signer
        self._companions = Companions(runner, model_signer, started=clock(), clock=clock)

    def find(self, packed: Packed, digests: DigestCache) -> StandingBox | None:
        """The box, if it stands there with the bytes that it should have, and so does what belongs beside it.

        Raises ``FlatpackError``, a ``KeyFileError`` when there is no key to sign with.
        """
        key = _box_key(packed.payload.digest, self._signer)
        box = self._runner.cache.get(key)
        path = self._folder / packed.file_name
        if box is None or not path.exists():
            return None
        making = packed.made_into(box.tree)
        standing = StandingBox(path, (key, *self._companions.keys(making)))
        digest, _ = digests.digest(os.fspath(path))
        return standing if digest == box.tree and self._companions.in_place(making, path, digests) else None

    def make(self, packed: Packed, digests: DigestCache, listener: Listener) -> StandingBox:
        """Sign the payload, unless this key has signed it before, and link the box into the folder of boxes.

        The box appears last: where it stands, all of it stands. Raises ``FlatpackError``.
        """
        key = _box_key(packed.payload.digest, self._signer)
        path = self._folder / packed.file_name
        box = self._signed(key)
        if box is not None and self._is_damaged(box, path):
            self._runner.store.discard(box)
            box = None
        if box is None:
            with self._runner.cache.lock(key):
                box = self._signed(key) or self._sign(key, packed, listener)
        source = self._runner.store.path(box)
        making = packed.made_into(box)
        self._companions.put(making, path, digests)
        try:
            replace_with_link(source, path)
            digests.remember(os.fspath(path), box)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}", hint=remedy(error, self._folder)) from error
        return StandingBox(path, (key, *self._companions.keys(making)))

    def _signed(self, key: ActionKey) -> Digest | None:
        """The box, if it has been signed before and is still whole."""
        known = self._runner.cache.get(key)
        return known.tree if known is not None and self._runner.store.contains(known.tree, known.size) else None

    def _is_damaged(self, box: Digest, path: Path) -> bool:
        """Whether what was linked into place was written to since: then the cache has the same wrong bytes."""
        try:
            return path.samefile(self._runner.store.path(box)) and Digest.of_file(path) != box
        except OSError:
            return False  # there is none, or it cannot be read: it is replaced

    def _sign(self, key: ActionKey, packed: Packed, listener: Listener) -> Digest:
        store = self._runner.store
        start = time.monotonic()
        with temporary_folder(self._runner.scratch_folder, prefix="sign-") as folder:
            with listening(listener):
                digest = self._signer.sign(store.path(packed.payload.digest), folder / _BOX)
            size = (folder / _BOX).stat().st_size
            blob = store.add_file(folder / _BOX, digest, move=True)
        seconds = round(time.monotonic() - start, 4)
        self._runner.cache.put(ActionResult(key, packed.pack, "sign", blob, size, seconds, 0, (), ()))
        return blob


def _box_key(payload: Digest, signer: Signer) -> ActionKey:
    return ActionKey(Digest.of_bytes(canonical_json(["box", 1, payload, signer.key_id, signer.hash_name])))
