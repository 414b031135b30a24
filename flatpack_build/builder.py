"""One build: walks the actions of its graphs, asks the runner, puts boxes in place. Knows no doit and no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from flatpack_build.action import Action, Input, Output, SourceFile, SourceTree
from flatpack_build.digest import ActionKey, Digest, Json, canonical_json
from flatpack_build.errors import FlatpackError, SourceError, StoreError, UsageError
from flatpack_build.events import Listener
from flatpack_build.fingerprint import InputDigest, action_key, walk
from flatpack_build.fs import replace_with_link, temporary_folder
from flatpack_build.graph import BoxPlan, Graph
from flatpack_build.planner import surroundings
from flatpack_build.pools import Admission, PeakMemory, Pool, needs
from flatpack_build.record import Record
from flatpack_build.runner import Ran, Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.folders import kind_of, load_tree, missing
from flatpack_build.store.protocol import ActionResult
from flatpack_build.tree import Tree, TreeEntry

State = Literal["built", "cached", "up to date"]
_PAYLOAD = "payload.tar.zst"
_BOX = "box.fpk"


class Signer(Protocol):
    """Makes boxes out of payloads. Its key never leaves it."""

    @property
    def key_id(self) -> str: ...

    @property
    def hash_name(self) -> str: ...

    def sign(self, payload: Path, box: Path) -> None:
        """Write ``box``: the payload and its signature. Raises ``FlatpackError``."""


@dataclass(frozen=True)
class Outcome:
    """How an action of this build ended. ``seconds`` is wall time spent on it now, not waiting for cores or memory."""

    state: State
    seconds: float
    result: ActionResult


@dataclass(frozen=True)
class FinishedBox:
    """A box that stands in the folder of boxes. ``seconds`` is the time of all actions that went into it now."""

    flatpack: str
    plan: BoxPlan
    path: Path
    size: int
    state: State
    seconds: float


class Builder:
    """Judges and runs the actions of some graphs. ``check`` is for one thread at a time, ``run`` for many.

    Without a ``pool`` nothing waits for cores and memory.
    """

    def __init__(
        self,
        runner: Runner,
        graphs: Collection[Graph],
        *,
        digests: DigestCache,
        versions: Callable[[str], str],
        signer: Callable[[], Signer] | None,
        boxes: Path,
        record: Record,
        forced: Collection[str] = (),
        pool: Pool | None = None,
        peaks: PeakMemory | None = None,
    ) -> None:
        self._runner = runner
        self._actions: dict[str, Action] = {name: action for graph in graphs for name, action in graph.actions.items()}
        self._boxes = {box.pack: (graph.flatpack, box) for graph in graphs for box in graph.boxes}
        self._graphs = {name: graph for graph in graphs for name in graph.actions}
        self._digests = digests
        self._versions = versions
        self._signer = signer
        self._folder = boxes
        self._record = record
        self._forced = set(forced)
        self._pool = pool
        self._peaks = peaks
        self._trees: dict[Digest, Tree] = {}
        self._checked: dict[str, FlatpackError] = {}
        self._healing = threading.RLock()
        self.outcomes: dict[str, Outcome] = {}

    # --- judging

    def check(self, name: str) -> bool:
        """Whether there is nothing to do for this action. An error met here is raised by ``run``, where it is reported."""
        if name in self._forced:
            return False
        # doit asks in order, but `doit list --status` does not.
        if not all(need in self.outcomes or self.check(need) for need in self._actions[name].needs):
            return False
        try:
            parts, _ = self._parts(name)
            result = self._runner.cache.get(action_key(parts))
            if result is None or not self._runner.store.contains(result.tree):
                return False
            if name in self._boxes and self._box_in_place(name, result) is None:
                return False
        except FlatpackError as error:
            self._checked[name] = error
            return False
        self.outcomes[name] = Outcome("up to date", 0.0, result)
        return True

    def _parts(self, name: str) -> tuple[list[tuple[str, Json]], Mapping[str, InputDigest]]:
        action = self._actions[name]
        inputs = {key: self._input_digest(source) for key, source in action.inputs.items()}
        tools = {tool: self._versions(tool) for tool in action.params.tools}
        return list(walk(action.params, inputs, tools)), inputs

    def _tree(self, digest: Digest) -> Tree:
        tree = self._trees.get(digest)
        if tree is None:
            tree = self._trees[digest] = load_tree(self._runner.store, digest)
        return tree

    def _input_digest(self, source: Input) -> InputDigest:
        if isinstance(source, Output):
            return self._output_digest(source)
        if isinstance(source, SourceFile):
            digest, status = self._digests.digest(source.path)
            return InputDigest("file", digest, status.st_size)
        tree = self._source_tree(source)
        self._trees[tree.digest] = tree
        return InputDigest("tree", tree.digest, tree.size)

    def _output_digest(self, source: Output) -> InputDigest:
        if source.action not in self.outcomes:
            raise UsageError(f"{source.action} has not been built", hint="build it first, or leave --single out")
        tree = self._tree(self.outcomes[source.action].result.tree)
        if not source.member:
            return InputDigest("tree", tree.digest, tree.size)
        entry = tree.file(source.member)
        if entry is not None:
            return InputDigest("file", entry.digest, entry.size)
        part = tree.below(source.member)
        if not part.entries:
            raise SourceError(f"{source.action} made no {source.member!r}", hint="this is a bug: please report it")
        self._trees[part.digest] = part
        return InputDigest("tree", part.digest, part.size)

    def _source_tree(self, source: SourceTree) -> Tree:
        entries = []
        for path in source.files:
            digest, status = self._digests.digest(f"{source.root}/{path}")
            entries.append(TreeEntry(path, kind_of(status.st_mode), status.st_size, digest))
        return Tree.of(entries)

    # --- running

    def run(self, name: str, listener: Listener) -> Outcome:
        """Make the action's result and, for a pack, its box. Raises ``FlatpackError``."""
        start = time.monotonic()
        error = self._checked.pop(name, None)
        if error is not None:
            raise error
        ran = self._run_action(name, listener, force=name in self._forced or name in self.outcomes)
        if name in self._boxes:
            self._finish_box(name, ran.result)
        outcome = Outcome(ran.state, time.monotonic() - start - ran.waited, ran.result)
        self.outcomes[name] = outcome
        return outcome

    def _run_action(self, name: str, listener: Listener, *, force: bool) -> Ran:
        action = self._actions[name]
        parts, inputs = self._parts(name)
        if not force:
            key = action_key(parts)
            found = self._runner.cache.get(key)
            if found is not None and self._runner.complete(found):
                ran = Ran(found, "cached", 0.0)
                self._record.add(name, action.step, inputs, ran)
                return ran
        self._provide(action, inputs, listener)
        size = sum(source.size for source in inputs.values())
        ran = self._runner.run(
            action,
            parts,
            inputs,
            listener,
            force=force,
            admission=self._admission(action, size),
            around=surroundings(action, self._actions.values()),
        )
        if self._peaks:
            self._peaks.saw(name, size, ran.result.peak_memory)
        self._record.add(name, action.step, inputs, ran)
        return ran

    def _admission(self, action: Action, size: int) -> Admission | None:
        if self._pool is None:
            return None
        peak = self._peaks.of(action.name, size) if self._peaks else 0
        return self._pool.admission(needs(action.params, size, self._pool.capacity, peak))

    def _provide(self, action: Action, inputs: Mapping[str, InputDigest], listener: Listener) -> None:
        """Put everything the action reads into the store: the user's files, and outputs that were evicted since."""
        for key, source in action.inputs.items():
            if isinstance(source, SourceFile):
                self._take_in(source.path, inputs[key].digest, inputs[key].size)
            elif isinstance(source, SourceTree):
                tree = self._tree(inputs[key].digest)
                for entry in missing(self._runner.store, tree):
                    self._take_in(f"{source.root}/{entry.path}", entry.digest, entry.size)
                self._runner.store.add_bytes(tree.encode())
            else:
                self._heal(source, inputs[key], listener)

    def _take_in(self, path: str, digest: Digest, size: int) -> None:
        """Copy a file of the user's into the store, so that an edit during the build cannot change what is built."""
        store = self._runner.store
        if store.contains(digest, size):
            return
        taken = store.add_file(Path(path))
        if taken != digest:
            raise SourceError(f"{path} was changed while it was being built from", hint="build again")

    def _heal(self, source: Output, wanted: InputDigest, listener: Listener) -> None:
        """Make an output again that the store no longer holds whole."""
        store = self._runner.store
        producer = self.outcomes[source.action].result
        with self._healing:
            if wanted.kind == "file":
                whole = store.contains(wanted.digest, wanted.size)
            else:
                tree = self._tree(wanted.digest)
                store.add_bytes(tree.encode())  # a part of a tree has no blob of its own until it is staged
                whole = not missing(store, tree)
            if whole:
                return
            ran = self._run_action(source.action, listener, force=not self._runner.complete(producer))
        if ran.result.tree != producer.tree:
            raise StoreError(
                f"{source.action} was made again, because the cache had lost its output, and came out different",
                hint="build again: what depends on it will be rebuilt",
            )

    # --- boxes

    def _box_key(self, payload: Digest, signer: Signer) -> ActionKey:
        return ActionKey(Digest.of_bytes(canonical_json(["box", 1, payload, signer.key_id, signer.hash_name])))

    def _payload(self, result: ActionResult) -> TreeEntry:
        entry = self._tree(result.tree).file(_PAYLOAD)
        assert entry is not None, "pack always makes a payload"
        return entry

    def _box_in_place(self, name: str, result: ActionResult) -> Path | None:
        """The box's path if it stands there with the bytes that it should have."""
        if self._signer is None:
            return None
        box = self._runner.cache.get(self._box_key(self._payload(result).digest, self._signer()))
        path = self._folder / self._boxes[name][1].file_name
        if box is None or not path.exists():
            return None
        digest, _ = self._digests.digest(str(path))
        return path if digest == box.tree else None

    def _finish_box(self, name: str, result: ActionResult) -> None:
        """Sign the payload, unless this key has signed it before, and link the box into the folder of boxes."""
        assert self._signer is not None, "a build that packs is given a signer"
        signer = self._signer()
        payload = self._payload(result)
        key = self._box_key(payload.digest, signer)
        cache, store = self._runner.cache, self._runner.store
        with cache.lock(key):
            known = cache.get(key)
            if known is None or not store.contains(known.tree, known.size):
                with temporary_folder(self._runner.scratch_folder, prefix="sign-") as folder:
                    start = time.monotonic()
                    signer.sign(store.path(payload.digest), folder / _BOX)
                    size = (folder / _BOX).stat().st_size
                    blob = store.add_file(folder / _BOX, move=True)
                seconds = round(time.monotonic() - start, 4)
                known = ActionResult(key, name, "sign", blob, size, seconds, 0, (), ())
                cache.put(known)
        path = self._folder / self._boxes[name][1].file_name
        try:
            replace_with_link(store.path(known.tree), path)
            self._digests.remember(str(path), known.tree)
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error.strerror}", hint="check the disk and its permissions"
            ) from error

    def finished_boxes(self) -> list[FinishedBox]:
        """The boxes of this build that stand in place, in the order of the graphs."""
        found = []
        for name, (flatpack, plan) in self._boxes.items():
            outcome = self.outcomes.get(name)
            path = self._folder / plan.file_name
            if outcome is None or not path.exists():
                continue
            graph = self._graphs[name]
            seconds = sum(self.outcomes[part].seconds for part in graph.closure([name]) if part in self.outcomes)
            found.append(FinishedBox(flatpack, plan, path, path.stat().st_size, outcome.state, seconds))
        return found

    def close(self) -> None:
        """Keep what was learned about the user's files, and about the memory that actions need."""
        self._digests.save()
        if self._peaks:
            self._peaks.save()
