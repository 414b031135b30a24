"""A project looked at without being touched: what a build would do there, and why. Writes nothing; knows no doit.

Opens what the builder needs (store, cache, digests, key) for reading, and turns the names a person types into actions.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from flatpack_build import events
from flatpack_build.box.container import SUFFIX
from flatpack_build.box.model_signing import ModelSigner
from flatpack_build.box.signer import KeySigner
from flatpack_build.box_maker import BoxMaker
from flatpack_build.builder import Builder
from flatpack_build.companions import required_companions
from flatpack_build.digest import Digest
from flatpack_build.errors import FlatpackError, LockError, Place, UsageError
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.graph import BoxPlan, Graph
from flatpack_build.judge import Judgement, judge
from flatpack_build.last import Last, last_file, read_last
from flatpack_build.naming import flatpack_name
from flatpack_build.planner import Planner
from flatpack_build.project import Project
from flatpack_build.reasons import Reasons
from flatpack_build.record import Record
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from flatpack_build.versions import tool_version

_NAME = re.compile(r"(?:(?P<step>[^:/@]+):)?(?P<flatpack>[^:/@]+)(?:/(?P<part>[^@]*))?(?:@(?P<target>.*))?")
Forgotten = Callable[[Collection[Graph]], Collection[str]]
"""Which actions of some graphs run again whatever their keys say (``doit forget``)."""
Fresh = Callable[[str, Collection[str]], bool]
"""Whether a build of a flatpack's boxes for some targets (none: for all) would see by its stamp that nothing has changed."""


@dataclass(frozen=True)
class Selected:
    """What a name stands for: one action, or (``group``) those that a box or a flatpack needs; ``target`` is the box's."""

    flatpack: str
    actions: tuple[str, ...]
    group: bool
    target: str = ""


class Inspection:
    """Looks at one project. Each flatpack is read and judged when it is first asked for, and that is reported."""

    def __init__(
        self, project: Project, forgotten: Forgotten, fresh: Fresh, *, versions: Callable[[str], str] = tool_version
    ) -> None:
        self.project = project
        self.store = LocalStore(project.cache)
        self.cache = LocalActionCache(project.cache)
        self._forgotten = forgotten
        self._fresh = fresh
        self.version = versions
        self._planner = Planner(project, keep=False)
        self._runner = Runner(self.store, self.cache, LocalExecutor({}), Scratch(project.cache))
        self._graphs: dict[str, Graph] = {}
        self._digest_caches: dict[str, DigestCache] = {}
        self._builders: dict[str, Builder] = {}
        self._judged: dict[str, Mapping[str, Judgement]] = {}
        self._asked = 0

    # --- names

    def locked(self, flatpack: str) -> bool:
        """Whether it has a lock: without one what it would run is not known. Raises ``UsageError`` when unknown."""
        self.project.flatpack_folder(flatpack)
        return self._planner.lock_file(flatpack).exists()

    def flatpacks(self, names: Sequence[str]) -> list[str]:
        """The flatpacks that the names are about; all of the warehouse without names. Raises ``UsageError``."""
        if not names:
            everything = self.project.flatpacks()
            self._asked = len(everything)
            return everything
        found: dict[str, None] = {}
        for name in names:
            match = _NAME.fullmatch(self._task(name))
            if match is None:
                raise UsageError(f"{name!r} is no task and no flatpack", hint="see: doit list --all")
            flatpack = match["flatpack"]
            if _is_pattern(flatpack):
                found |= dict.fromkeys(fnmatch.filter(self.project.flatpacks(), flatpack))
            else:
                self.project.flatpack_folder(flatpack)
                found[flatpack] = None
        self._asked = max(self._asked, len(found))
        return list(found)

    def select(self, names: Sequence[str]) -> list[Selected]:
        """The actions that names stand for: ``compress:chat@pi5``, ``build:chat@pi5``, ``build:chat``, ``chat``,
        ``chat@pi5``, or a pattern with ``*``; the path of a box or of a flatpack's folder. Flatpacks without a lock are
        left out. A pattern without a colon means flatpacks and boxes, not their single actions.

        Raises ``FlatpackError`` for what there is not.
        """
        names = [self._task(name) for name in names]
        flatpacks = [name for name in self.flatpacks(names) if self.locked(name)]
        found: dict[Selected, None] = {}
        matched: set[str] = set()
        for flatpack in flatpacks:
            known = _known(self.graph(flatpack))
            for name in names or [flatpack]:
                for hit in _matching(known, name) if _is_pattern(name) else [name] * (name in known):
                    found[known[hit]] = None
                    matched.add(name)
        for name in names:
            if name not in matched and all(self.locked(flatpack) for flatpack in self.flatpacks([name])):
                raise self._no_task(name)
        return list(found)

    def _no_task(self, name: str) -> UsageError:
        known = [task for flatpack in self.flatpacks([name]) for task in _known(self.graph(flatpack))]
        near = difflib.get_close_matches(name, known, n=1)
        return UsageError(
            f"there is no task {name!r}", hint=f"did you mean {near[0]!r}?" if near else "see: doit list --all"
        )

    def _task(self, name: str) -> str:
        """The name that is meant by a path. Raises ``UsageError``."""
        if not name.endswith(SUFFIX):
            return flatpack_name(self.project, name)
        file = os.path.basename(name)
        for flatpack in filter(self.locked, self.project.flatpacks()):
            for box in self.graph(flatpack).boxes:
                if box.file_name == file:
                    return f"build:{flatpack}@{box.target}"
        raise UsageError(f"no flatpack of this warehouse makes a box {file}", hint="see: flatpack list")

    def need_lock(self, flatpack: str) -> None:
        """Raises ``LockError`` where there is no lock."""
        if not self.locked(flatpack):
            raise LockError(
                f"{flatpack} has no flatpack.lock yet, so what it is made of is not known",
                place=Place(os.fspath(self._planner.lock_file(flatpack))),
                hint=f"run: flatpack lock {flatpack}",
            )

    # --- what is known of a flatpack

    def graph(self, flatpack: str) -> Graph:
        """Raises ``FlatpackError``."""
        if flatpack not in self._graphs:
            self._graphs[flatpack] = self._planner.graph(flatpack)
            events.progress(len(self._graphs), self._asked, "flatpacks")
        return self._graphs[flatpack]

    def plan_files(self, flatpack: str) -> tuple[str, ...]:
        """The files (absolute paths) that decide what the graph looks like: manifest, lock, settings, profiles, keys."""
        self.graph(flatpack)
        return self._planner.read[flatpack]

    def last(self, flatpack: str) -> Last:
        return read_last(last_file(self.project.build / "last", flatpack))

    def digest(self, flatpack: str, path: str) -> tuple[Digest, os.stat_result]:
        """The sha256 of a file of the user's and its status. Raises ``SourceError``."""
        return self._digests(flatpack).digest(path)

    def _digests(self, flatpack: str) -> DigestCache:
        if flatpack not in self._digest_caches:
            self._digest_caches[flatpack] = DigestCache(self.project.build / "digests" / f"{flatpack}.json")
        return self._digest_caches[flatpack]

    def builder(self, flatpack: str) -> Builder:
        """A builder that is asked, and never run or closed."""
        if flatpack not in self._builders:
            graph = self.graph(flatpack)
            self._builders[flatpack] = Builder(
                self._runner,
                [graph],
                digests=self._digests,
                versions=self.version,
                record=Record(self.project.build / "record.jsonl"),
                forced=self._forgotten([graph]),
                box_maker=BoxMaker(self._runner, self.project.dist, signer=self.signer, model_signer=self.model_signer),
            )
        return self._builders[flatpack]

    def judgements(self, flatpack: str) -> Mapping[str, Judgement]:
        """A judgement for each action, in the order of the graph. Raises ``FlatpackError``."""
        if flatpack not in self._judged:
            graph = self.graph(flatpack)
            forced = self._forgotten([graph])
            self._judged[flatpack] = judge(self.builder(flatpack), self._runner, graph, forced, self.last(flatpack))
            events.progress(len(self._judged), self._asked, "flatpacks")
        return self._judged[flatpack]

    def untouched(self, selection: Collection[Selected]) -> frozenset[str]:
        """The actions that a build of this selection would not even look at: nothing that their boxes were last built
        from has changed, so it does not matter what the cache still has. Where a single action is asked for, all are."""
        if not all(selected.group for selected in selection):
            return frozenset()
        found: set[str] = set()
        for selected in selection:
            graph = self.graph(selected.flatpack)
            if not self._forgotten([graph]) and self._fresh(
                selected.flatpack, [selected.target] * bool(selected.target)
            ):
                found |= graph.closure(selected.actions)
        return frozenset(found)

    def reasons(self, flatpack: str) -> Reasons:
        """Raises ``FlatpackError``."""
        return Reasons(
            judgements=self.judgements(flatpack),
            last=self.last(flatpack),
            cache=self.cache,
            store=self.store,
            tree=self.builder(flatpack).tree,
            box_state=lambda pack: self._box_state(flatpack, pack),
            root=os.fspath(self.project.root),
        )

    # --- boxes

    @cached_property
    def signer(self) -> KeySigner:
        return KeySigner(self.project.signing_key, self.project.public_key)

    @cached_property
    def model_signer(self) -> ModelSigner | None:
        return ModelSigner(self.project.model_signing_key) if self.project.model_signing_key else None

    def key_problem(self) -> FlatpackError | None:
        """Why no box could be signed."""
        try:
            _ = self.signer.key_id
            _ = self.model_signer and self.model_signer.key_id
        except FlatpackError as error:
            return error
        return None

    def box(self, flatpack: str, pack: str) -> BoxPlan:
        """The box that a pack action makes."""
        return next(box for box in self.graph(flatpack).boxes if box.pack == pack)

    def _box_state(self, flatpack: str, pack: str) -> str:
        path = self.project.dist / self.box(flatpack, pack).file_name
        shown = os.path.relpath(path, self.project.root)
        if not path.exists():
            return f"the box {shown} is not there"
        for companion in required_companions(path):
            if not companion.exists():
                return f"{os.path.relpath(companion, self.project.root)} is not there"
        return f"the box {shown}, or what stands beside it, is another one: of other content, or of another key"


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _matching(known: Mapping[str, Selected], pattern: str) -> list[str]:
    """Of a flatpack that matches as a whole, nothing else is said."""
    hits = [name for name in fnmatch.filter(known, pattern) if ":" in pattern or known[name].group]
    whole = [name for name in hits if known[name].group and not known[name].target]
    return whole[:1] or hits


def _known(graph: Graph) -> dict[str, Selected]:
    """Everything in a graph that has a name."""
    flatpack = graph.flatpack
    everything = Selected(flatpack, tuple(graph.actions), group=True)
    known = {name: Selected(flatpack, (name,), group=False) for name in graph.actions}
    known |= {flatpack: everything, f"build:{flatpack}": everything}
    for box in graph.boxes:
        closure = graph.closure([box.pack])
        group = Selected(
            flatpack, tuple(name for name in graph.actions if name in closure), group=True, target=box.target
        )
        known |= {f"{flatpack}@{box.target}": group, f"build:{flatpack}@{box.target}": group}
    return known
