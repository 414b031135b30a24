"""One build: walks the actions of its graphs, asks the runner, puts boxes in place. Knows no doit and no terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from flatpack_build.action import Action, Input, Output, SourceFile, SourceTree
from flatpack_build.admissions import Admissions
from flatpack_build.companions import Companions, Making, ModelSigner
from flatpack_build.digest import ActionKey, Digest, Json, canonical_json
from flatpack_build.errors import FlatpackError, SourceError, StoreError, UsageError
from flatpack_build.events import Listener, listening
from flatpack_build.fingerprint import InputDigest, action_key, walk
from flatpack_build.fs import remedy, replace_with_link, temporary_folder
from flatpack_build.graph import BoxPlan, Graph
from flatpack_build.last import last_file, read_last, write_last
from flatpack_build.pinned import check_pinned
from flatpack_build.record import ActionLine, Record
from flatpack_build.runner import Ran, Runner
from flatpack_build.stamps import Signature
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.folders import kind_of, load_tree, missing
from flatpack_build.store.protocol import ActionResult
from flatpack_build.surroundings import surroundings
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

    def sign(self, payload: Path, box: Path) -> Digest:
        """Write ``box``: the payload and its signature; say the sha256 of it all. Raises ``FlatpackError``."""


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

    Without ``admissions`` nothing waits for cores and memory.
    """

    def __init__(
        self,
        runner: Runner,
        graphs: Collection[Graph],
        *,
        digests: Callable[[str], DigestCache],
        versions: Callable[[str], str],
        signer: Callable[[], Signer] | None,
        boxes: Path,
        record: Record,
        forced: Collection[str] = (),
        model_signer: Callable[[], ModelSigner] | None = None,
        clock: Callable[[], float] = time.time,
        admissions: Admissions | None = None,
    ) -> None:
        self._runner = runner
        self._actions: dict[str, Action] = {name: action for graph in graphs for name, action in graph.actions.items()}
        self._boxes = {box.pack: (graph.flatpack, box) for graph in graphs for box in graph.boxes}
        self._by_flatpack = {graph.flatpack: graph for graph in graphs}
        self._graphs = {name: graph for graph in graphs for name in graph.actions}
        self._digests = digests
        self._versions = versions
        self._signer = signer
        self._folder = boxes
        self._record = record
        self._forced = set(forced)
        self._companions = Companions(runner, model_signer, started=clock(), clock=clock)
        self._admissions = admissions
        self._trees: dict[Digest, Tree] = {}
        self._files: dict[str, TreeEntry] = {}
        self._checked: dict[str, FlatpackError] = {}
        self._healing = threading.RLock()
        self._built: set[ActionKey] = set()
        self._box_keys: dict[str, tuple[ActionKey, ...]] = {}
        self._parts_of: dict[str, list[tuple[str, Json]]] = {}
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
            parts, inputs = self._parts(name)
            result = self._runner.cache.get(action_key(parts))
            if result is None:
                check_pinned(self._graphs[name].flatpack, self._actions[name], inputs)
                return False
            if not self._has_tree(result):
                return False
            if name in self._boxes and self._box_in_place(name, result) is None:
                return False
        except FlatpackError as error:
            self._checked[name] = error
            return False
        if result.key in self._built:  # another action of this very build has made it
            self._record.add(ActionLine.of_result(name, "cached", 0.0, result))
            self.outcomes[name] = Outcome("cached", 0.0, result)
        else:
            self.outcomes[name] = Outcome("up to date", 0.0, result)
        return True

    def _has_tree(self, result: ActionResult) -> bool:
        if not self._runner.store.contains(result.tree):
            return False
        try:
            self._tree(result.tree)
        except StoreError:
            return False  # damaged, and so removed: the action runs again
        return True

    def problem(self, name: str) -> FlatpackError | None:
        """The error that ``check`` met and that ``run`` will raise."""
        return self._checked.get(name)

    def known_parts(self, name: str) -> tuple[list[tuple[str, Json]], Mapping[str, InputDigest]]:
        """The walk as far as it is known: inputs from actions without an outcome are left out. Raises ``FlatpackError``."""
        sources = self._actions[name].inputs.items()
        known = [key for key, source in sources if not isinstance(source, Output) or source.action in self.outcomes]
        return self._parts(name, known)

    def tree(self, digest: Digest) -> Tree:
        """A tree that this build has met, or that the store holds. Raises ``StoreError``."""
        return self._tree(digest)

    def _parts(
        self, name: str, only: Collection[str] | None = None
    ) -> tuple[list[tuple[str, Json]], Mapping[str, InputDigest]]:
        action = self._actions[name]
        wanted = action.inputs if only is None else only
        digests = self._digests(self._graphs[name].flatpack)
        inputs = {key: self._input_digest(source, digests) for key, source in action.inputs.items() if key in wanted}
        tools = {tool: self._versions(tool) for tool in action.params.tools}
        return list(walk(action.params, inputs, tools)), inputs

    def _tree(self, digest: Digest) -> Tree:
        tree = self._trees.get(digest)
        if tree is None:
            tree = self._trees[digest] = load_tree(self._runner.store, digest)
        return tree

    def _input_digest(self, source: Input, digests: DigestCache) -> InputDigest:
        if isinstance(source, Output):
            return self._output_digest(source)
        if isinstance(source, SourceFile):
            entry = self._file(source.path, digests)
            return InputDigest("file", entry.digest, entry.size)
        tree = self._source_tree(source, digests)
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

    def _source_tree(self, source: SourceTree, digests: DigestCache) -> Tree:
        entries = []
        paths = [f"{source.root}/{path}" for path in source.files]
        digests.prepare([path for path in paths if path not in self._files])
        for name, path in zip(source.files, paths, strict=True):
            file = self._file(path, digests)
            entries.append(TreeEntry(name, file.kind, file.size, file.digest))
        return Tree.of(entries)

    def _file(self, path: str, digests: DigestCache) -> TreeEntry:
        """A file of the user's as it was when this build first looked: all actions of one build see the same."""
        entry = self._files.get(path)
        if entry is None:
            digest, status = digests.digest(path)
            entry = self._files[path] = TreeEntry(path, kind_of(status.st_mode), status.st_size, digest)
        return entry

    # --- running

    def run(self, name: str, listener: Listener) -> Outcome:
        """Make the action's result and, for a pack, its box. Raises ``FlatpackError``."""
        start = time.monotonic()
        try:
            return self._run(name, listener, start)
        except Exception as error:
            parts, seconds = self._parts_of.get(name), time.monotonic() - start
            self._record.add(ActionLine.of_failure(name, self._actions[name].step, seconds, error, parts))
            raise

    def _run(self, name: str, listener: Listener, start: float) -> Outcome:
        error = self._checked.pop(name, None)
        if error is not None:
            raise error
        ran = self._run_action(name, listener, force=name in self._forced or name in self.outcomes)
        if name in self._boxes:
            self._finish_box(name, ran.result, listener)
        outcome = Outcome(ran.state, time.monotonic() - start - ran.waited, ran.result)
        self._record.add(ActionLine.of_result(name, ran.state, outcome.seconds, ran.result))
        self.outcomes[name] = outcome
        return outcome

    def _run_action(self, name: str, listener: Listener, *, force: bool) -> Ran:
        action = self._actions[name]
        parts, inputs = self._parts(name)
        self._parts_of[name] = parts
        if not force:
            key = action_key(parts)
            found = self._runner.cache.get(key)
            if found is not None and self._runner.complete(found):
                return Ran(found, "cached", 0.0)
        self._provide(action, inputs, listener)
        graph, size = self._graphs[name], sum(source.size for source in inputs.values())
        ran = self._runner.run(
            action,
            parts,
            inputs,
            listener,
            force=force,
            admission=self._admissions.admission(graph.flatpack, action, size) if self._admissions else None,
            around=surroundings(action, graph.actions.values()),
        )
        if ran.state == "built":
            self._built.add(ran.result.key)
        return ran

    def _provide(self, action: Action, inputs: Mapping[str, InputDigest], listener: Listener) -> None:
        """Put everything the action reads into the store: the user's files, and outputs that were evicted since."""
        for key, source in action.inputs.items():
            if isinstance(source, SourceFile):
                self._take_in(action.name, source.path, inputs[key].digest, inputs[key].size)
            elif isinstance(source, SourceTree):
                tree = self._tree(inputs[key].digest)
                for entry in missing(self._runner.store, tree):
                    self._take_in(action.name, f"{source.root}/{entry.path}", entry.digest, entry.size)
                self._runner.store.add_bytes(tree.encode())
            else:
                self._heal(source, inputs[key], listener)

    def _take_in(self, name: str, path: str, digest: Digest, size: int) -> None:
        """Copy a file of the user's into the store, so that an edit during the build cannot change what is built."""
        store = self._runner.store
        if store.contains(digest, size):
            return
        try:
            with open(path, "rb"):
                pass  # whether it can be read at all: what fails from here on is the cache
            taken = store.add_file(Path(path))
        except OSError as error:
            raise SourceError(
                f"{path} cannot be read any more: {error.strerror}", hint="it was there when this build began"
            ) from error
        if taken != digest:
            self._digests(self._graphs[name].flatpack).forget(path)
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
            self._record.add(ActionLine.of_result(source.action, ran.state, ran.seconds, ran.result))
        if ran.result.tree != producer.tree:
            raise StoreError(
                f"{source.action} was made again, because the cache had lost its output, and came out different",
                hint="build again: what depends on it will be rebuilt",
            )

    # --- boxes

    def _box_key(self, payload: Digest, signer: Signer) -> ActionKey:
        return ActionKey(Digest.of_bytes(canonical_json(["box", 1, payload, signer.key_id, signer.hash_name])))

    def _making(self, name: str, box: Digest, result: ActionResult) -> Making:
        graph = self._graphs[name]
        closure = graph.closure([name]) - {name}
        actions = {part: self.outcomes[part].result for part in graph.actions if part in closure}
        inside = self._tree(result.tree)
        file_name = self._boxes[name][1].file_name
        return Making(file_name, box, self._payload(result).digest, inside, {**actions, name: result})

    def _payload(self, result: ActionResult) -> TreeEntry:
        entry = self._tree(result.tree).file(_PAYLOAD)
        assert entry is not None, "pack always makes a payload"
        return entry

    def _box_in_place(self, name: str, result: ActionResult) -> Path | None:
        """The box's path if it stands there with the bytes that it should have, and so does what belongs beside it."""
        if self._signer is None:
            return None
        key = self._box_key(self._payload(result).digest, self._signer())
        box = self._runner.cache.get(key)
        path = self._folder / self._boxes[name][1].file_name
        if box is None or not path.exists():
            return None
        digests = self._digests(self._boxes[name][0])
        making = self._making(name, box.tree, result)
        self._box_keys[name] = key, *self._companions.keys(making)
        digest, _ = digests.digest(str(path))
        return path if digest == box.tree and self._companions.in_place(making, path, digests) else None

    def _finish_box(self, name: str, result: ActionResult, listener: Listener) -> None:
        """Sign the payload, unless this key has signed it before, and link the box into the folder of boxes."""
        assert self._signer is not None, "a build that packs is given a signer"
        signer = self._signer()
        payload = self._payload(result)
        key = self._box_key(payload.digest, signer)
        box = self._signed(key)
        if box is None:
            with self._runner.cache.lock(key):
                box = self._signed(key) or self._sign(key, name, payload.digest, signer, listener)
        path = self._folder / self._boxes[name][1].file_name
        source = self._runner.store.path(box)
        digests = self._digests(self._boxes[name][0])
        making = self._making(name, box, result)
        self._box_keys[name] = key, *self._companions.keys(making)
        self._companions.put(making, path, digests)  # the box comes last: where it stands, all of it stands
        try:
            replace_with_link(source, path)
            digests.remember(str(path), box)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}", hint=remedy(error, self._folder)) from error

    def _signed(self, key: ActionKey) -> Digest | None:
        """The box, if it has been signed before and is still whole."""
        known = self._runner.cache.get(key)
        return known.tree if known is not None and self._runner.store.contains(known.tree, known.size) else None

    def _sign(self, key: ActionKey, name: str, payload: Digest, signer: Signer, listener: Listener) -> Digest:
        store = self._runner.store
        start = time.monotonic()
        with temporary_folder(self._runner.scratch_folder, prefix="sign-") as folder:
            with listening(listener):
                digest = signer.sign(store.path(payload), folder / _BOX)
            size = (folder / _BOX).stat().st_size
            blob = store.add_file(folder / _BOX, digest, move=True)
        seconds = round(time.monotonic() - start, 4)
        self._runner.cache.put(ActionResult(key, name, "sign", blob, size, seconds, 0, (), ()))
        return blob

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

    def keep_last(self, folder: Path) -> None:
        """Keep the key of each action that was judged, for later explanations. A build of nothing writes nothing."""
        outcomes = dict(self.outcomes)  # after Ctrl-C other threads may still be at work
        for flatpack, graph in self._by_flatpack.items():
            now = {name: outcomes[name] for name in graph.actions if name in outcomes}
            path = last_file(folder, flatpack)
            idle = all(outcome.state == "up to date" for outcome in now.values())
            if not now or (idle and path.exists()):
                continue
            last = read_last(path)
            kept = last.after(graph, {name: outcome.result.key for name, outcome in now.items()})
            if kept != last:
                with contextlib.suppress(OSError):  # it would have made a later explanation better
                    write_last(path, kept)

    def keys(self, flatpack: str) -> list[ActionKey]:
        """The keys of all results of this build that the flatpack's boxes are made of, and of the boxes themselves."""
        names = self._by_flatpack[flatpack].actions
        actions = [self.outcomes[name].result.key for name in names if name in self.outcomes]
        return [*actions, *(key for name, keys in self._box_keys.items() if name in names for key in keys)]

    def seen(self, flatpack: str) -> Mapping[str, Signature] | None:
        """Every file of the user's that the flatpack's actions read, as it was when it was hashed; ``None`` if one of
        them changed too shortly before that to be sure."""
        digests = self._digests(flatpack)
        found: dict[str, Signature] = {}
        for action in self._by_flatpack[flatpack].actions.values():
            for source in action.inputs.values():
                paths: tuple[str, ...] = ()
                if isinstance(source, SourceFile):
                    paths = (source.path,)
                elif isinstance(source, SourceTree):
                    paths = tuple(f"{source.root}/{path}" for path in source.files)
                for path in paths:
                    found[path] = digests.signature(path)
                    if found[path] is None:
                        return None
        return found
