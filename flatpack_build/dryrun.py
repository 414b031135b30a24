"""A build that is not made: what each of its actions would do, and about how long it would take. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flatpack_build.action import Output
from flatpack_build.digest import Digest
from flatpack_build.errors import StoreError
from flatpack_build.estimate import Estimate, Run, estimate
from flatpack_build.explain import INPUT, Verdict
from flatpack_build.inspection import Inspection
from flatpack_build.judge import Judgement, twins
from flatpack_build.reasons import same_as
from flatpack_build.store.folders import load_tree
from flatpack_build.store.protocol import ActionResult, Store

COUNTED: tuple[Verdict, ...] = ("would run", "may run", "fails", "cached", "up to date")


@dataclass(frozen=True)
class PlannedAction:
    """``estimate`` is for actions that run, ``None`` where no past run tells; ``size`` is that of a result that exists
    and was looked up."""

    flatpack: str
    action: str
    verdict: Verdict
    reason: str
    estimate: Estimate | None = None
    size: int = 0


@dataclass(frozen=True)
class DryRun:
    """``unlocked``: flatpacks without a lock, of which nothing is known. ``problem``: why no box could be signed."""

    actions: tuple[PlannedAction, ...]
    unlocked: tuple[str, ...]
    problem: str = ""

    def count(self, verdict: Verdict) -> int:
        return sum(action.verdict == verdict for action in self.actions)

    def total(self, *verdicts: Verdict) -> tuple[float, int, int]:
        """Seconds of work and bytes made by the actions of these verdicts, and how many of them are not in it."""
        meant = [action for action in self.actions if action.verdict in verdicts]
        known = [action.estimate for action in meant if action.estimate is not None]
        seconds, size = sum(item.seconds for item in known), sum(item.size for item in known)
        return seconds, size, len(meant) - len(known)


def dry_run(inspection: Inspection, names: Sequence[str]) -> DryRun:
    """What ``doit build:<names>`` would do. Raises ``FlatpackError``."""
    flatpacks = inspection.flatpacks(names)
    wanted: dict[str, set[str]] = {}
    selection = inspection.select(names)
    untouched = inspection.untouched(selection)
    for selected in selection:
        closure = inspection.graph(selected.flatpack).closure(selected.actions)
        wanted.setdefault(selected.flatpack, set()).update(closure)
    history = History(inspection.store, inspection.cache.results)
    actions: list[PlannedAction] = []
    packs = False
    judged = {
        flatpack: {
            name: replace(item, verdict="up to date") if name in untouched else item
            for name, item in inspection.judgements(flatpack).items()
            if name in closure
        }
        for flatpack, closure in wanted.items()
        if not untouched.issuperset(closure)
    }
    shared = twins(item for judgements in judged.values() for item in judgements.values())
    for flatpack, needed in wanted.items():
        if flatpack not in judged:  # a build would not look at its actions, and no more is done here
            packs = True
            everything = inspection.graph(flatpack).actions
            actions += [PlannedAction(flatpack, name, "up to date", "") for name in everything if name in needed]
            continue
        judgements = judged[flatpack]
        reasons = inspection.reasons(flatpack)
        estimates = _estimates(judgements, inspection, flatpack, history)
        for name, judgement in judgements.items():
            packs = packs or judgement.action.step == "pack"
            if name in shared:
                size = estimates[name].size if name in estimates else 0
                actions.append(PlannedAction(flatpack, name, "cached", same_as(shared[name]), None, size))
                continue
            reason = "" if judgement.verdict == "up to date" else reasons.reason(name)
            size = judgement.result.size if judgement.result is not None else 0
            actions.append(PlannedAction(flatpack, name, judgement.verdict, reason, estimates.get(name), size))
    problem = inspection.key_problem() if packs else None
    unlocked = tuple(name for name in flatpacks if not inspection.locked(name))
    return DryRun(tuple(actions), unlocked, "" if problem is None else str(problem))


def _estimates(
    judgements: Mapping[str, Judgement], inspection: Inspection, flatpack: str, history: History
) -> dict[str, Estimate]:
    """For each action that runs. Where its inputs are not known yet, by what is estimated to go in."""
    last = inspection.last(flatpack)
    found: dict[str, Estimate] = {}
    for name, judgement in judgements.items():
        if not judgement.runs:
            continue
        key = last.then(name, name)
        before = None if key is None else inspection.cache.get(key)
        runs = history.of(judgement.action.step)
        size = _input_size(judgement, found)
        if size is None:  # nothing is known of what goes in: then it is as it was the last time
            size = history.input_size(before) if before is not None else 0
        guess = estimate(name, judgement.action.step, dict(judgement.parts), size, runs)
        if guess is not None:
            found[name] = guess
    return found


def _input_size(judgement: Judgement, estimates: Mapping[str, Estimate]) -> int | None:
    size = sum(item.size for item in (judgement.inputs or {}).values())
    for key, source in judgement.action.inputs.items():
        if isinstance(source, Output) and key in judgement.unknown_inputs:
            if source.action not in estimates:
                return None
            size += estimates[source.action].size
    return size


class History:
    """Past runs by step, read out of the action cache when they are first asked for."""

    def __init__(self, store: Store, results: Callable[[], Iterable[ActionResult]]) -> None:
        self._store = store
        self._results = results
        self._by_step: dict[str, list[ActionResult]] | None = None
        self._runs: dict[str, list[Run]] = {}

    def of(self, step: str) -> list[Run]:
        """All runs of a step that the cache knows."""
        if self._by_step is None:
            self._by_step = {}
            for result in self._results():
                self._by_step.setdefault(result.step, []).append(result)
        if step not in self._runs:
            self._runs[step] = [self._run(result) for result in self._by_step.get(step, [])]
        return self._runs[step]

    def _run(self, result: ActionResult) -> Run:
        return Run(result.action, result.step, dict(result.parts), self.input_size(result), result.seconds, result.size)

    def input_size(self, result: ActionResult) -> int:
        """Bytes of the inputs that the store still has."""
        return sum(self._sizes(result))

    def _sizes(self, result: ActionResult) -> Iterator[int]:
        for name, value in result.parts:
            if not name.startswith(INPUT):
                continue
            kind, _, text = str(value).partition(":")
            try:
                if kind == "tree":
                    yield load_tree(self._store, Digest(text)).size
                else:
                    yield self._store.path(Digest(text)).stat().st_size
            except (OSError, StoreError):
                continue
