"""Why each action would run or would not, down to the file, parameter or tool that changed. Reads only; knows no doit.

What is compared are the walks that the keys are made of: the one kept with the last result, and the one of now.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flatpack_build.action import Input, Output, SourceFile, SourceTree
from flatpack_build.digest import ActionKey, Digest
from flatpack_build.errors import StoreError
from flatpack_build.explain import INPUT, SMALL_TEXT, Change, Explanation, FileChange, compare, text_diff, tree_changes
from flatpack_build.judge import Judgement
from flatpack_build.last import Last
from flatpack_build.store.folders import load_tree
from flatpack_build.store.protocol import ActionCache, ActionResult, Store
from flatpack_build.tree import Tree, TreeEntry


@dataclass(frozen=True)
class Reasons:
    """Explains the actions of one graph. ``tree`` gives the trees of now; ``box_state`` says what is wrong with a box
    whose payload is known; paths are shown relative to ``root``."""

    judgements: Mapping[str, Judgement]
    last: Last
    cache: ActionCache
    store: Store
    tree: Callable[[Digest], Tree]
    box_state: Callable[[str], str]
    root: str

    def explain(self, names: Iterable[str], *, changed_only: bool = False) -> list[Explanation]:
        """The named actions, each with the actions that are the cause of its changes after it, every one once.

        With ``changed_only`` those that stay as they are go unmentioned.
        """
        found: dict[tuple[str, ActionKey | None], Explanation] = {}
        for name in names:
            if changed_only and self.judgements[name].verdict == "up to date":
                continue
            self._add(name, name, found)
        return list(found.values())

    def reason(self, name: str) -> str:
        """One sentence about an action, counted from its own last build."""
        return self._explain(name, name, self.last.then(name, name)).reason

    def _add(self, name: str, since: str, found: dict[tuple[str, ActionKey | None], Explanation]) -> None:
        before = self.last.then(since, name)
        if (name, before) in found:
            return
        found[name, before] = self._explain(name, since, before)
        for need in self.judgements[name].action.needs:
            if self._differs(need, since):
                self._add(need, since, found)

    def _differs(self, need: str, since: str) -> bool:
        judgement = self.judgements[need]
        before = self.last.then(since, need)
        return judgement.verdict != "up to date" or (before is not None and before != judgement.key)

    def _explain(self, name: str, since: str, before: ActionKey | None) -> Explanation:
        judgement = self.judgements[name]
        old = None if before is None else self.cache.get(before)
        changes: tuple[Change, ...] = ()
        if old is not None and judgement.inputs is not None:
            unknown = judgement.unknown_inputs
            changes = compare(old.parts, judgement.parts, unknown=unknown)
            changes = tuple(self._with_files(judgement, change) for change in changes)
        return Explanation(
            name,
            judgement.verdict,
            self._reason(judgement, since, before, old, changes),
            since,
            changes,
            judgement.waits_for,
            before or "",
            judgement.key or "",
        )

    # --- what is inside a changed input

    def _with_files(self, judgement: Judgement, change: Change) -> Change:
        if not change.part.startswith(INPUT):
            return change
        source = judgement.action.inputs.get(change.part.removeprefix(INPUT))
        producer = source.action if isinstance(source, Output) else ""
        trees = self._as_tree(change.before, source, now=False), self._as_tree(change.after, source, now=True)
        if trees[0] is None or trees[1] is None:
            return replace(change, producer=producer)
        files = tree_changes(trees[0], trees[1])
        if not producer:  # what an action makes is explained by that action
            files = tuple(self._with_lines(file, source) for file in files)
        return replace(change, files=files, producer=producer)

    def _as_tree(self, value: object, source: Input | None, *, now: bool) -> Tree | None:
        """The input as a list of files; a single file is a list of one. Without an input: an empty one."""
        if value is None:
            return Tree(())
        kind, _, text = str(value).partition(":")
        digest = Digest(text)
        if kind != "tree":
            size = self._size(digest)
            if now and isinstance(source, SourceFile):
                size = os.stat(source.path).st_size
            return Tree((TreeEntry(_name(source), "exec" if kind == "exec" else "file", size, digest),))
        try:
            return self.tree(digest) if now else load_tree(self.store, digest)
        except StoreError:
            return None

    def _size(self, digest: Digest) -> int:
        try:
            return self.store.path(digest).stat().st_size
        except (OSError, StoreError):
            return 0

    def _with_lines(self, file: FileChange, source: Input | None) -> FileChange:
        path = self._path(file.path, source)
        shown = self._shown(path)
        before = file.before
        if before is not None and file.how == "renamed":
            before = replace(before, path=self._shown(self._path(before.path, source)))
        lines: tuple[str, ...] = ()
        if file.before is not None and file.after is not None:
            old = self._content(file.before, None)
            new = self._content(file.after, path)
            if old is not None and new is not None:
                lines = text_diff(old, new)
        return replace(file, path=shown, before=before, lines=lines)

    def _path(self, name: str, source: Input | None) -> str:
        if isinstance(source, SourceTree):
            return os.path.join(source.root, name)
        return source.path if isinstance(source, SourceFile) else name

    def _shown(self, path: str) -> str:
        return os.path.relpath(path, self.root) if path.startswith(os.sep) else path

    def _content(self, entry: TreeEntry, path: str | None) -> bytes | None:
        """The bytes of a small file: from the user's own, or as they were when they were built from."""
        if entry.size > SMALL_TEXT:
            return None
        try:
            data = (self.store.path(entry.digest) if path is None else Path(path)).read_bytes()
        except (OSError, StoreError):
            return None
        return data if Digest.of_bytes(data) == entry.digest else None

    # --- the sentence

    def _reason(
        self,
        judgement: Judgement,
        since: str,
        before: ActionKey | None,
        old: ActionResult | None,
        changes: Sequence[Change],
    ) -> str:
        name = judgement.action.name
        if judgement.error is not None:
            return judgement.error.shown(self.root)
        if judgement.verdict == "fails":
            return f"it needs {_list(self._failing(judgement))}, which cannot be built"
        if judgement.verdict == "up to date":
            return self._why_not(judgement, since, before, old, changes)
        if judgement.verdict == "cached":
            return f"{self.box_state(name)}; its content is in the cache"
        if judgement.forced:
            return "it was forgotten (doit forget)"
        if judgement.needed_by:
            return f"the cache no longer has its output, and {judgement.needed_by} needs it"
        if judgement.lost:
            return "nothing has changed, but the cache no longer has its output"
        if changes:
            return _count(changes) + (self._waiting(judgement) and f"; it also {self._waiting(judgement)}")
        if judgement.verdict == "may run":
            return f"it {self._waiting(judgement)}; if what that makes comes out as before, this stays as it is"
        if before is None:
            return "it has not been built here yet"
        if old is None:
            return "the cache no longer has its last result"
        return "nothing has changed, but the cache no longer has its output"

    def _why_not(
        self,
        judgement: Judgement,
        since: str,
        before: ActionKey | None,
        old: ActionResult | None,
        changes: Sequence[Change],
    ) -> str:
        if before is None:
            return "the cache has its result, from another build"
        own = since == judgement.action.name
        if changes:
            when = "it was last built here" if own else f"{since} was last built"
            return f"{_count(changes)} since {when}, and that result is in the cache"
        if before != judgement.key and old is None:
            return "the cache has its result; the one before is no longer known"
        again = [need for need in judgement.action.needs if self._differs(need, since)]
        if again:
            return f"{_list(again)} has changed, but what it makes came out the same, so this stays as it is"
        return "nothing has changed: step, parameters, tools and inputs are those it was built from"

    def _failing(self, judgement: Judgement) -> list[str]:
        return [need for need in judgement.waits_for if self.judgements[need].verdict == "fails"]

    def _waiting(self, judgement: Judgement) -> str:
        if not judgement.waits_for:
            return ""
        sure = [need for need in judgement.waits_for if self.judgements[need].verdict == "would run"]
        needs = sure or judgement.waits_for
        return f"depends on {_list(needs)}, which {'would' if sure else 'may'} run"


def same_as(other: str) -> str:
    """The reason of an action for which another one of the same key runs."""
    return f"it is the same as {other}, which would run"


def _name(source: Input | None) -> str:
    if isinstance(source, SourceFile):
        return os.path.basename(source.path)
    if isinstance(source, Output):
        return os.path.basename(source.member) or "(all)"
    return "(gone)"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(changes: Sequence[Change]) -> str:
    """``parameter quant has changed``; of more than three only how many of a kind."""
    if len(changes) <= 3:
        return f"{_list([change.part for change in changes])} {'has' if len(changes) == 1 else 'have'} changed"
    kinds: dict[str, int] = {}
    for change in changes:
        kind = "step" if change.part.startswith("step") else change.part.partition(" ")[0]
        kinds[kind] = kinds.get(kind, 0) + 1
    counted = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items()]
    return f"{_list(counted)} {'has' if len(changes) == 1 else 'have'} changed"
