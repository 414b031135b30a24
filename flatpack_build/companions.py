"""What stands beside a box: its provenance with the facts of the run, its bill of materials and, where asked for, a
signature of the kind that model hubs check. Made once for a box and kept like it. Knows no doit and no plan.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from flatpack_build.digest import ActionKey, Digest, Json, canonical_json
from flatpack_build.errors import StoreError
from flatpack_build.fs import atomic_write, remedy
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.folders import load_tree
from flatpack_build.store.protocol import ActionResult
from flatpack_build.tree import Tree, TreeEntry

PROVENANCE_SUFFIX: Final = ".provenance.json"
SBOM_SUFFIX: Final = ".sbom.cdx.json"
SIGNATURE_SUFFIX: Final = ".model.sig"
SUFFIXES: Final = (PROVENANCE_SUFFIX, SBOM_SUFFIX, SIGNATURE_SUFFIX)
"""What is added to the name of a box."""

PAYLOAD_NAME: Final = "payload.tar.zst"
"""What the step pack calls the payload."""

_FORMAT = 1


def companion_paths(box: Path) -> tuple[Path, ...]:
    """Where the companions of ``box`` stand, those that may be missing included."""
    return tuple(box.with_name(box.name + suffix) for suffix in SUFFIXES)


def required_companions(box: Path) -> tuple[Path, ...]:
    """Those that every box has."""
    return tuple(box.with_name(box.name + suffix) for suffix in SUFFIXES if suffix != SIGNATURE_SUFFIX)


class ModelSigner(Protocol):
    """Makes OpenSSF model signatures. Its key never leaves it."""

    @property
    def key_id(self) -> str: ...

    def sign(self, name: str, digest: Digest) -> bytes:
        """The bundle for a file. Raises ``FlatpackError``."""


@dataclass(frozen=True)
class Making:
    """A box as it was made: its name and digests, and the results of all actions behind it, the pack's included."""

    file_name: str
    box: Digest
    payload: Digest
    inside: Tree
    """What the pack made."""
    actions: Mapping[str, ActionResult]


_Part: TypeAlias = tuple[ActionKey, Callable[[Making], Mapping[str, bytes]]]
"""What some companions are kept by, and what makes them: suffix -> bytes."""


class Companions:
    """Makes the companions of boxes, and puts them beside them. ``started`` is when this build began (seconds since
    1970), ``clock`` tells when it ends."""

    def __init__(
        self, runner: Runner, signer: ModelSigner | None, *, started: float, clock: Callable[[], float]
    ) -> None:
        self._runner = runner
        self._signer = signer
        self._started = started
        self._clock = clock

    def keys(self, making: Making) -> tuple[ActionKey, ...]:
        """What they are kept by. Raises ``KeyFileError`` where models are to be signed and there is no key."""
        return tuple(key for key, _ in self._parts(making))

    def in_place(self, making: Making, box: Path, digests: DigestCache) -> bool:
        """Whether all of them stand beside ``box`` with the bytes that they should have."""
        for key, _ in self._parts(making):
            tree = self._known(key)
            if tree is None:
                return False
            for entry, path in _places(tree, box):
                if not path.exists() or digests.digest(os.fspath(path))[0] != entry.digest:
                    return False
        return True

    def put(self, making: Making, box: Path, digests: DigestCache) -> None:
        """Make them, unless that was done before, and copy them beside ``box``. Each appears whole or not at all.

        Raises ``FlatpackError``.
        """
        for key, make in self._parts(making):
            contents = self._contents(key)
            if contents is None:  # else nothing is written, and the cache may be read-only
                with self._runner.cache.lock(key):
                    contents = self._contents(key)
                    if contents is None:
                        contents = make(making)
                        self._keep(key, making, contents)
            try:
                for suffix, data in contents.items():
                    path = box.with_name(box.name + suffix)
                    # They are small: no link, through which an editor could write into the cache.
                    atomic_write(path, data, mode=0o444)
                    digests.remember(os.fspath(path), Digest.of_bytes(data))
            except OSError as error:
                raise _cannot_write(box, error) from error
        if self._signer is None:  # one of an earlier box would be taken for one of this
            try:
                box.with_name(box.name + SIGNATURE_SUFFIX).unlink(missing_ok=True)
            except OSError as error:
                raise _cannot_write(box, error) from error

    def _parts(self, making: Making) -> list[_Part]:
        """Each with what decides it. A signature says nothing about the run, so that of another run is as good."""
        actions: list[Json] = [[name, result.key] for name, result in sorted(making.actions.items())]
        parts: list[_Part] = [(_key("descriptions", making, actions), self._descriptions)]
        if self._signer:
            parts.append((_key("model signature", making, self._signer.key_id), self._signature))
        return parts

    def _known(self, key: ActionKey) -> Tree | None:
        found = self._runner.cache.get(key)
        try:
            return load_tree(self._runner.store, found.tree) if found else None
        except StoreError:
            return None  # lost or damaged: they are made again

    def _contents(self, key: ActionKey) -> Mapping[str, bytes] | None:
        """What was made before: suffix -> bytes; ``None`` when it was not, or not all of it is whole any more."""
        store = self._runner.store
        tree = self._known(key)
        if tree is None:
            return None
        contents = {}
        for entry in tree.entries:
            try:
                data = store.path(entry.digest).read_bytes()
            except (StoreError, OSError):
                return None
            if Digest.of_bytes(data) != entry.digest:
                store.discard(entry.digest)
                return None
            contents[entry.path] = data
        return contents

    def _keep(self, key: ActionKey, making: Making, contents: Mapping[str, bytes]) -> None:
        store = self._runner.store
        tree = Tree.of(
            [TreeEntry(suffix, "file", len(data), store.add_bytes(data)) for suffix, data in contents.items()]
        )
        store.add_bytes(tree.encode())
        self._runner.cache.put(
            ActionResult(key, making.file_name, "companions", tree.digest, tree.size, 0.0, 0, (), ())
        )

    def _signature(self, making: Making) -> Mapping[str, bytes]:
        assert self._signer is not None, "only then there is such a part"
        return {SIGNATURE_SUFFIX: self._signer.sign(making.file_name, making.box)}

    def _descriptions(self, making: Making) -> Mapping[str, bytes]:
        sbom = _read(self._runner, making, "sbom.cdx.json")
        return {PROVENANCE_SUFFIX: self._provenance(making), SBOM_SUFFIX: sbom}

    def _provenance(self, making: Making) -> bytes:
        # Only a box that is new needs these.
        from flatpack_build.box.provenance import ActionFacts, RunFacts, beside, encode_statement

        inside = json.loads(_read(self._runner, making, "provenance.json"))
        actions = [
            ActionFacts(name, result.key, result.tree, result.seconds, result.notes, result.parts)
            for name, result in sorted(making.actions.items())
        ]
        run = RunFacts(self._started, self._clock(), {"python": sys.version.split()[0]}, actions)
        subjects = {making.file_name: making.box, PAYLOAD_NAME: making.payload}
        return encode_statement(beside(inside, subjects, run))


def _read(runner: Runner, making: Making, name: str) -> bytes:
    entry = making.inside.file(name)
    assert entry is not None, "pack always describes what it packed"
    return runner.store.path(entry.digest).read_bytes()


def _key(kind: str, making: Making, by: Json) -> ActionKey:
    return ActionKey(Digest.of_bytes(canonical_json([kind, _FORMAT, making.file_name, making.box, by])))


def _cannot_write(box: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot write beside {box}: {error.strerror}", hint=remedy(error, box.parent))


def _places(tree: Tree, box: Path) -> Iterator[tuple[TreeEntry, Path]]:
    for entry in tree.entries:
        yield entry, box.with_name(box.name + entry.path)
