"""One build: walks the actions of its graphs, asks the runner and the maker of boxes. Knows no doit and no terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.action import Action, Input, Output, SourceFile, SourceTree
from flatpack_build.admissions import Admissions
from flatpack_build.box_maker import BoxMaker, Packed, StandingBox
from flatpack_build.digest import ActionKey, Digest, Json
from flatpack_build.errors import FlatpackError, SourceError, StoreError, UsageError
from flatpack_build.events import Listener
from flatpack_build.fingerprint import InputDigest, action_key, walk
from flatpack_build.finished import FinishedBox, State
from flatpack_build.graph import Graph
from flatpack_build.last import last_file, read_last, write_last
from flatpack_build.pinned import check_pinned
from flatpack_build.record import ActionLine, Record
from flatpack_build.runner import Ran, Runner
from flatpack_build.source_files import SourceFiles
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.folders import load_tree, missing
from flatpack_build.store.protocol import ActionResult
from flatpack_build.surroundings import surroundings
from flatpack_build.tree import Tree


@dataclass(frozen=True)
class Outcome:
    """How an action of this build ended. ``seconds`` is wall time spent on it now, not waiting for cores or memory."""

    state: State
    seconds: float
    result: ActionResult


class Builder:
    """Judges and runs the actions of some graphs. ``check`` is for one thread at a time, ``run`` for many.

    Without ``box_maker`` no payload becomes a box; without ``admissions`` nothing waits for cores and memory.
    """

    def __init__(
        self,
        runner: Runner,
        graphs: Collection[Graph],
        *,
        digests: Callable[[str], DigestCache],
        versions: Callable[[str], str],
        record: Record,
        forced: Collection[str] = (),
        box_maker: BoxMaker | None = None,
        admissions: Admissions | None = None,
    ) -> None:
        self._runner = runner
        self._actions: dict[str, Action] = {name: action for graph in graphs for name, action in graph.actions.items()}
        self._boxes = {box.pack: (graph.flatpack, box) for graph in graphs for box in graph.boxes}
        self._by_flatpack = {graph.flatpack: graph for graph in graphs}
        self._graphs = {name: graph for graph in graphs for name in graph.actions}
        self._digests = digests
        self._versions = versions
        self._record = record
        self._forced = set(forced)
        self._box_maker = box_maker
        self._admissions = admissions
        self._trees: dict[Digest, Tree] = {}
        self._files = SourceFiles(runner.store)
        self._checked: dict[str, FlatpackError] = {}
        self._healing = threading.RLock()
        self._built: set[ActionKey] = set()
        self._standing: dict[str, StandingBox] = {}
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
            if name in self._boxes and not self._box_stands(name, result):
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
            entry = self._files.entry(source.path, digests)
            return InputDigest("file", entry.digest, entry.size)
        tree = self._files.tree(source, digests)
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
            self._make_box(name, ran.result, listener)
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
                self._files.take_in(source.path, inputs[key].digest, inputs[key].size)
            elif isinstance(source, SourceTree):
                self._files.take_in_tree(source.root, self._tree(inputs[key].digest))
            else:
                self._heal(source, inputs[key], listener)

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

    def _packed(self, name: str, result: ActionResult) -> Packed:
        graph = self._graphs[name]
        actions = {part: self.outcomes[part].result for part in graph.closure([name]) - {name}}
        return Packed(name, self._boxes[name][1].file_name, self._tree(result.tree), {**actions, name: result})

    def _box_stands(self, name: str, result: ActionResult) -> bool:
        if self._box_maker is None:
            return False
        box = self._box_maker.find(self._packed(name, result), self._digests(self._boxes[name][0]))
        if box is not None:
            self._standing[name] = box
        return box is not None

    def _make_box(self, name: str, result: ActionResult, listener: Listener) -> None:
        assert self._box_maker is not None, "a build that packs is given a maker of boxes"
        digests = self._digests(self._boxes[name][0])
        self._standing[name] = self._box_maker.make(self._packed(name, result), digests, listener)

    def finished_boxes(self, of: str = "") -> list[FinishedBox]:
        """The boxes of this build, or of the flatpack ``of``, that stand in place, in the order of the graphs."""
        found = []
        boxes = [(box.pack, (of, box)) for box in self._by_flatpack[of].boxes] if of else self._boxes.items()
        for name, (flatpack, plan) in boxes:
            outcome, box = self.outcomes.get(name), self._standing.get(name)
            if outcome is None or box is None or not box.path.exists():
                continue
            graph = self._graphs[name]
            seconds = sum(self.outcomes[part].seconds for part in graph.closure([name]) if part in self.outcomes)
            size = box.path.stat().st_size
            found.append(FinishedBox(flatpack, plan.target, name, plan.quant, box.path, size, outcome.state, seconds))
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
        return [*actions, *(key for name, box in self._standing.items() if name in names for key in box.keys)]
