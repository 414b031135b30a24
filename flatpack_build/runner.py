"""One action from key to result: look it up, else run it alone in the world and take its output into the store.

Knows the store, the action cache and an executor; no graph, no doit and no terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flatpack_build.action import Action, Surroundings
from flatpack_build.digest import ActionKey, Digest, Json
from flatpack_build.errors import CrashError, DamagedInputError, FlatpackError, StoreError
from flatpack_build.events import Listener
from flatpack_build.executor.protocol import Execution, Executor, Job
from flatpack_build.fingerprint import InputDigest, action_key
from flatpack_build.fs import atomic_write, disk_is_full, temporary_folder
from flatpack_build.params import INPUT_DIGESTS
from flatpack_build.pools import Admission
from flatpack_build.store.folders import lay_out, load_tree, missing, take_folder
from flatpack_build.store.local import LocalActionCache, Scratch, cannot
from flatpack_build.store.protocol import ActionResult, Store
from flatpack_build.tree import Tree, TreeEntry, encode_trees


@dataclass(frozen=True)
class Ran:
    """``built`` when the step ran now, ``cached`` when its result was there already; ``seconds`` is wall time, less
    ``waited``, the seconds until cores and memory were free."""

    result: ActionResult
    state: Literal["built", "cached"]
    seconds: float
    waited: float = 0.0


class Runner:
    """Runs actions, at most one at a time for each key on this machine."""

    def __init__(self, store: Store, cache: LocalActionCache, executor: Executor, scratch: Scratch) -> None:
        self.store = store
        self.cache = cache
        self._executor = executor
        self._scratch = scratch

    @property
    def scratch_folder(self) -> Path:
        """A temporary folder on the store's file system."""
        return self._scratch.folder

    def complete(self, result: ActionResult) -> bool:
        """Whether every blob of a result is still in the store."""
        try:
            return self.store.contains(result.tree) and not missing(self.store, load_tree(self.store, result.tree))
        except StoreError:
            return False  # its tree was damaged, or removed just now

    def run(
        self,
        action: Action,
        parts: list[tuple[str, Json]],
        inputs: Mapping[str, InputDigest],
        listener: Listener,
        *,
        force: bool = False,
        admission: Admission | None = None,
        around: Surroundings | None = None,
    ) -> Ran:
        """Give the action's result, running its step only if nobody has, or if ``force``. Raises ``FlatpackError``.

        The step runs inside ``admission``; what is found in the cache waits for none. ``around`` is for the ``Job``.
        """
        start = time.monotonic()
        key = action_key(parts)
        with self.cache.lock(key):
            found = None if force else self.cache.get(key)
            if found is not None and self.complete(found):
                return Ran(found, "cached", time.monotonic() - start)
            with admission or contextlib.nullcontext():
                try:
                    result = self._execute(action, key, parts, inputs, listener, around)
                except CrashError as error:
                    if admission and admission.note:
                        error.hint = f"{admission.note}; {error.hint}"
                    raise
            if admission and admission.note:
                result = dataclasses.replace(result, notes=(admission.note, *result.notes))
            self.cache.put(result)
        waited = admission.waited if admission else 0.0
        return Ran(result, "built", time.monotonic() - start - waited, waited)

    def _execute(
        self,
        action: Action,
        key: ActionKey,
        parts: list[tuple[str, Json]],
        inputs: Mapping[str, InputDigest],
        listener: Listener,
        around: Surroundings | None,
    ) -> ActionResult:
        try:
            # The folder's name is no part of anything that comes out: steps get paths below it and must not record them.
            with temporary_folder(self._scratch.folder, prefix=f"{action.step}-{secrets.token_hex(2)}-") as folder:
                out = folder / "out"
                out.mkdir()
                staged, trees = self._stage(inputs, folder / "in", digests=action.params.wants_digests)
                job = Job(action.name, action.params, staged, out, around)
                try:
                    execution = self._run_step(job, listener)
                except DamagedInputError as error:
                    self._discard_damaged(entry for given in trees.values() for entry in given.entries)
                    raise self._damaged(error.message) from error
                tree = take_folder(self.store, out)
                if action.params.hands_on:
                    self._check_handed_on(trees, tree)
        except OSError as error:
            raise cannot(f"prepare {action.name}", error, self.cache.root) from error
        return ActionResult(
            key=key,
            action=action.name,
            step=action.step,
            tree=tree.digest,
            size=tree.size,
            seconds=round(execution.seconds, 4),
            peak_memory=execution.peak_memory,
            notes=execution.notes,
            parts=tuple(parts),
            executor=execution.executor,
        )

    def _run_step(self, job: Job, listener: Listener) -> Execution:
        try:
            return self._executor.run(job, listener)
        except FlatpackError as error:
            # Native libraries rarely say that it was the disk. What the step has written still fills it here.
            if disk_is_full(job.out):
                root = self.cache.root
                raise StoreError(
                    f"the disk of the cache folder {root} is full: {error.message}",
                    hint=f"free some space on the disk of {root}; nothing that was built so far is lost",
                ) from error
            raise

    def _check_handed_on(self, given: Mapping[str, Tree], made: Tree) -> None:
        """What went in and did not come out was replaced on purpose, or it was damaged. Raises ``StoreError``."""
        came_out = {entry.digest for entry in made.entries}
        damaged = self._discard_damaged(
            entry for tree in given.values() for entry in tree.entries if entry.digest not in came_out
        )
        if damaged:
            raise self._damaged(f"{damaged[0].path or damaged[0].digest.short!r} is not what it was")

    def _discard_damaged(self, entries: Iterable[TreeEntry]) -> list[TreeEntry]:
        """Have the store forget what is damaged among them, so that the next build makes it again."""
        damaged = []
        for entry in entries:
            if entry.kind == "dir":
                continue  # it has no blob
            with contextlib.suppress(StoreError, FileNotFoundError):  # another action had it removed
                if Digest.of_file(self.store.path(entry.digest)) != entry.digest:
                    self.store.discard(entry.digest)
                    damaged.append(entry)
        return damaged

    def _damaged(self, what: str) -> StoreError:
        return StoreError(
            f"the cache was damaged: {what}",
            hint="build again: what was damaged has been removed and will be made anew; check the disk of "
            f"{self.cache.root} if this happens often",
        )

    def _stage(
        self, inputs: Mapping[str, InputDigest], folder: Path, *, digests: bool
    ) -> tuple[Mapping[str, Path], Mapping[str, Tree]]:
        """Files are read where they lie in the store; folders are laid out as links to it. And what is in each."""
        staged, trees = {}, {}
        for name, source in inputs.items():
            if source.kind == "file":
                staged[name] = self.store.path(source.digest)
                trees[name] = Tree((TreeEntry("", "file", source.size, source.digest),))
            else:
                staged[name] = folder / name.replace("/", "-")
                trees[name] = load_tree(self.store, source.digest)
                lay_out(self.store, trees[name], staged[name])
        if digests:
            staged[INPUT_DIGESTS] = folder / "digests.json"
            atomic_write(staged[INPUT_DIGESTS], encode_trees(trees))
        return staged, trees
