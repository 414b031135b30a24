"""Runs every action of a graph twice, under conditions as unlike as can be had, and compares all bytes that come out.

Works in a folder of its own: the cache is read (for what ``flatpack.lock`` pins) and filled with nothing else. Knows no
doit and no terminal.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flatpack_build.action import Action, Input, SourceFile, SourceTree
from flatpack_build.builder import Builder
from flatpack_build.digest import ActionKey
from flatpack_build.errors import SourceError, StepError, VerificationError
from flatpack_build.events import Listener
from flatpack_build.executor.local import Conditions, LocalExecutor
from flatpack_build.executor.protocol import Job
from flatpack_build.fingerprint import InputDigest, action_key, walk
from flatpack_build.fs import link_or_copy, remove_tree, walk_files
from flatpack_build.graph import Graph
from flatpack_build.params import Params, RunParams
from flatpack_build.store.folders import kind_of, lay_out, load_tree, take_folder
from flatpack_build.store.local import LocalStore
from flatpack_build.store.protocol import Store
from flatpack_build.surroundings import surroundings
from flatpack_build.tree import Tree, TreeEntry
from flatpack_build.undeclared import explained

How = Literal["run twice", "pinned by the lock", "same as another"]
_LATER = "+400d"  # of the second run's clock: another day, month and year
_BLOCK = 1 << 20
_BEFORE, _AFTER = 16, 32  # bytes shown around the first difference
_FAKETIME = ("usr/lib/*/faketime/libfaketimeMT.so.1", "usr/lib*/faketime/libfaketimeMT.so.1")
_HINT = (
    "the runs differed in folder, clock, time zone, locale, umask, user, home folder and hash seed; random numbers, "
    "threads and the order in which a folder is read are other usual causes"
)


@dataclass(frozen=True)
class Verified:
    """An action whose two runs gave the same. ``size`` is the bytes of all its files, ``seconds`` are for both runs."""

    action: str
    how: How
    files: int
    size: int
    seconds: float


def faketime_library() -> Path | None:
    """The library that shows a process another clock, where it is installed with its command."""
    if shutil.which("faketime") is None:
        return None
    return next((path for pattern in _FAKETIME for path in sorted(Path("/").glob(pattern))), None)


@dataclass(frozen=True)
class _Given:
    """An input that is ready to be staged: a file's digest, or a tree, and the store that has its blobs."""

    store: Store
    digest: InputDigest
    tree: Tree | None

    def stage(self, path: Path) -> None:
        if self.tree is not None:
            lay_out(self.store, self.tree, path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(self.store.path(self.digest.digest), path, mode=0o555 if self.digest.kind == "exec" else 0o444)


class Verifier:
    """Verifies one graph below ``work``, an empty folder. ``builder`` gets what the lock pins, and leaves it in ``store``.

    ``environment`` is the caller's.
    """

    def __init__(
        self, graph: Graph, *, builder: Builder, store: Store, work: Path, environment: Mapping[str, str]
    ) -> None:
        self._graph = graph
        self._builder = builder
        self._store = store
        self._own = LocalStore(work / "store")
        self._folders = (work / "first", work / "second" / "and" / "deeper")
        self._environment = environment
        self._clock = faketime_library()
        self._made: dict[str, tuple[Store, Tree]] = {}
        self._verified: dict[ActionKey, str] = {}
        self._sources: dict[str, TreeEntry] = {}

    def verify(self, names: Collection[str], listener: Listener) -> Iterator[Verified]:
        """Each of the actions ``names`` (with all that they need) as it passes, in an order in which they can run.

        Raises ``VerificationError`` at the first difference, with its file and offset; ``FlatpackError`` when an
        action fails.
        """
        for name, action in self._graph.actions.items():
            if name in names:
                yield self._verify(action, listener)

    def _verify(self, action: Action, listener: Listener) -> Verified:
        start = time.monotonic()
        how: How = "run twice"
        if action.step == "fetch":
            # Its bytes are checked against the lock whenever it runs: a second download would say nothing more.
            how = "pinned by the lock"
            if not self._builder.check(action.name):
                self._builder.run(action.name, listener)
            tree = load_tree(self._store, self._builder.outcomes[action.name].result.tree)
            self._made[action.name] = (self._store, tree)
        else:
            given = {name: self._given(source) for name, source in action.inputs.items()}
            digests = {name: item.digest for name, item in given.items()}
            key = action_key(list(walk(action.params, digests, dict.fromkeys(action.params.tools, ""))))
            if key in self._verified:
                how = "same as another"
                self._made[action.name] = self._made[self._verified[key]]
            else:
                self._made[action.name] = (self._own, self._run_twice(action, given, listener))
                self._verified[key] = action.name
        tree = self._made[action.name][1]
        files = sum(entry.kind != "dir" for entry in tree.entries)
        return Verified(action.name, how, files, tree.size, time.monotonic() - start)

    # --- inputs

    def _given(self, source: Input) -> _Given:
        if isinstance(source, SourceFile):
            entry = self._source(source.path)
            return _Given(self._own, InputDigest.of_file(entry), None)
        if isinstance(source, SourceTree):
            files = ((name, self._source(f"{source.root}/{name}")) for name in source.files)
            tree = Tree.of([TreeEntry(name, file.kind, file.size, file.digest) for name, file in files])
            return _Given(self._own, InputDigest("tree", tree.digest, tree.size), tree)
        store, tree = self._made[source.action]
        file = tree.file(source.member) if source.member else None
        if file is not None:
            return _Given(store, InputDigest.of_file(file), None)
        part = tree.below(source.member) if source.member else tree
        return _Given(store, InputDigest("tree", part.digest, part.size), part)

    def _source(self, path: str) -> TreeEntry:
        """A file of the user's, copied when it is first met, so that both runs get the same."""
        entry = self._sources.get(path)
        if entry is None:
            try:
                status = os.stat(path)
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise SourceError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
            digest = self._own.add_file(Path(path))
            size = self._own.path(digest).stat().st_size
            entry = self._sources[path] = TreeEntry(path, kind_of(status.st_mode), size, digest)
        return entry

    # --- runs

    def _run_twice(self, action: Action, given: Mapping[str, _Given], listener: Listener) -> Tree:
        first, second = self._folders
        started = time.time()
        self._run(action, action.params, given, first, self._plain(first), listener)
        if self._clock is None:  # no other clock to be had: at least another second on this one
            time.sleep(max(0.0, int(started) + 1.05 - time.time()))
        params, conditions = self._strange(action.params, second)
        self._run(action, params, given, second, conditions, listener)
        _compare(action.name, first / "out", second / "out")
        tree = take_folder(self._own, first / "out")
        remove_tree(first)
        remove_tree(second)
        return tree

    def _run(
        self,
        action: Action,
        params: Params,
        given: Mapping[str, _Given],
        folder: Path,
        conditions: Conditions,
        listener: Listener,
    ) -> None:
        (folder / "out").mkdir(parents=True)
        (folder / "home").mkdir()
        inputs = {}
        for key, item in given.items():
            inputs[key] = folder / "in" / key.replace("/", "-")
            item.stage(inputs[key])
        executor = LocalExecutor(self._environment, conditions=conditions)
        try:
            executor.run(Job(action.name, params, inputs, folder / "out"), listener)
        except StepError as error:
            around = surroundings(action, self._graph.actions.values())
            if around is None:
                raise
            raise explained(error, around, None) from error

    @staticmethod
    def _plain(folder: Path) -> Conditions:
        variables = {"USER": "first", "LOGNAME": "first", "HOME": os.fspath(folder / "home"), "PYTHONHASHSEED": "1"}
        return Conditions(variables, umask=0o022)

    def _strange(self, params: Params, folder: Path) -> tuple[Params, Conditions]:
        """Another user, locale, time zone and clock. A build step of the flatpack's own sees the clock as well; the
        rest is the same for it wherever it runs, and so it is here."""
        variables = {
            "USER": "second",
            "LOGNAME": "second",
            "HOME": os.fspath(folder / "home"),
            "PYTHONHASHSEED": "2",
            "TZ": "Pacific/Chatham",
            "LANG": "tr_TR.UTF-8",
            "LC_ALL": "tr_TR.UTF-8",
        }
        if self._clock is None:
            return params, Conditions(variables, umask=0o077)
        if not isinstance(params, RunParams):
            return params, Conditions(variables, umask=0o077, command=("faketime", "--exclude-monotonic", "-f", _LATER))
        clock = {"LD_PRELOAD": os.fspath(self._clock), "FAKETIME": _LATER, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        params = dataclasses.replace(params, environment={**params.environment, **clock})
        return params, Conditions(variables, umask=0o077)


# --- comparing


def _compare(action: str, first: Path, second: Path) -> None:
    """Raises ``VerificationError`` where two outputs of an action differ first, in the order of their paths."""
    one, other = (dict(walk_files(folder)) for folder in (first, second))
    for path in sorted(one.keys() | other.keys()):
        if path not in one or path not in other:
            which = "first" if path in one else "second"
            raise _difference(action, f"only its {which} run made {path!r}")
        if path.endswith("/"):
            continue
        kinds = [kind_of(entry.stat(follow_symlinks=False).st_mode) for entry in (one[path], other[path])]
        if kinds[0] != kinds[1]:
            which = "first" if kinds[0] == "exec" else "second"
            raise _difference(action, f"{path!r} may be executed after its {which} run only")
        offset = first_difference(Path(one[path].path), Path(other[path].path))
        if offset is not None:
            shown = [_around(Path(entry.path), offset) for entry in (one[path], other[path])]
            where = f"{path!r} differs from byte {offset} on"
            raise _difference(action, f"{where}\n  first run:  {shown[0]}\n  second run: {shown[1]}")


def _difference(action: str, what: str) -> VerificationError:
    return VerificationError(f"{action} is not reproducible: {what}", hint=_HINT)


def first_difference(one: Path, other: Path) -> int | None:
    """The offset of the first byte that differs, or at which one file ends; ``None`` for equal files."""
    with open(one, "rb") as left, open(other, "rb") as right:
        start = 0
        while True:
            a, b = left.read(_BLOCK), right.read(_BLOCK)
            if a != b:
                return start + next(
                    (at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
                )
            if not a:
                return None
            start += len(a)


def _around(path: Path, offset: int) -> str:
    """Some bytes before and after: as text where it is text, else in hexadecimal."""
    with open(path, "rb") as file:
        file.seek(max(0, offset - _BEFORE))
        data = file.read(_BEFORE + _AFTER)
    if not data[min(offset, _BEFORE) :]:
        return "ends here"
    text = data.decode("latin-1")
    if all(character.isprintable() or character in "\t\r\n" for character in text):
        return repr(text)
    return data.hex(" ")
