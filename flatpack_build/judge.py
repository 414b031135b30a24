"""What a build would do with every action, found out without doing any of it. Writes nothing; knows no doit.

It asks the builder itself, so keys are made and staleness is judged in one way only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from flatpack_build.action import Action, Output
from flatpack_build.builder import Builder
from flatpack_build.digest import ActionKey, Json
from flatpack_build.errors import FlatpackError
from flatpack_build.explain import Verdict
from flatpack_build.fingerprint import InputDigest, action_key
from flatpack_build.graph import Graph
from flatpack_build.last import Last
from flatpack_build.runner import Runner
from flatpack_build.store.folders import missing
from flatpack_build.store.protocol import ActionResult


@dataclass(frozen=True)
class Judgement:
    """``parts`` is the walk as far as it is known: inputs from the actions in ``waits_for`` are not in it, and then there
    is no ``key`` either. ``result`` is what the cache has for the key, ``lost`` says that it no longer has it whole."""

    action: Action
    verdict: Verdict
    parts: tuple[tuple[str, Json], ...] = ()
    inputs: Mapping[str, InputDigest] | None = None
    waits_for: tuple[str, ...] = ()
    key: ActionKey | None = None
    result: ActionResult | None = None
    forced: bool = False
    lost: bool = False
    needed_by: str = ""
    """The action for whose sake a lost output is made again."""
    error: FlatpackError | None = None
    likeness: str = ""
    """Equal for two actions exactly when their keys will be: what is not known yet counts by what makes it."""

    @property
    def unknown_inputs(self) -> frozenset[str]:
        """The names of the inputs that are not known yet."""
        inputs = self.action.inputs.items()
        return frozenset(
            name for name, source in inputs if isinstance(source, Output) and source.action in self.waits_for
        )

    @property
    def runs(self) -> bool:
        return self.verdict in ("would run", "may run")


def judge(
    builder: Builder, runner: Runner, graph: Graph, forced: Collection[str], last: Last
) -> Mapping[str, Judgement]:
    """A judgement for each action of ``graph``, in its order. ``builder`` is one that is never closed."""
    found: dict[str, Judgement] = {}
    for name, action in graph.actions.items():
        judgement = _judge(builder, runner, action, found, name in forced, last)
        found[name] = replace(judgement, likeness=_likeness(judgement, found))
    for name, consumer in _lost(found, builder, runner):
        found[name] = replace(found[name], verdict="would run", lost=True, needed_by=consumer)
    return found


def twins(judgements: Iterable[Judgement]) -> Mapping[str, str]:
    """Of actions that would run with one and the same key only the first does: the others -> that first one."""
    first: dict[str, str] = {}
    found = {}
    for judgement in judgements:
        name = judgement.action.name
        if judgement.verdict == "would run":
            other = first.setdefault(judgement.likeness, name)
            if other != name and not judgement.forced:
                found[name] = other
    return found


def _likeness(judgement: Judgement, before: Mapping[str, Judgement]) -> str:
    if judgement.key is not None:
        return judgement.key
    inputs = judgement.action.inputs
    unknown: dict[str, Json] = {}
    for name in sorted(judgement.unknown_inputs):
        source = inputs[name]
        assert isinstance(source, Output), "only what an action makes is unknown"
        unknown[name] = [before[source.action].likeness, source.member]
    return action_key([*judgement.parts, ("unknown", unknown)])


def _judge(
    builder: Builder, runner: Runner, action: Action, before: Mapping[str, Judgement], forced: bool, last: Last
) -> Judgement:
    name = action.name
    fresh = builder.check(name)
    waits_for = tuple(need for need in action.needs if before[need].verdict != "up to date")
    try:
        parts, inputs = builder.known_parts(name)
        if not fresh and (problem := builder.problem(name)) is not None:
            raise problem
    except FlatpackError as error:
        return Judgement(action, "fails", waits_for=waits_for, error=error)
    known = Judgement(action, "would run", tuple(parts), inputs, waits_for, forced=forced)
    if waits_for:
        if any(before[need].verdict == "fails" for need in waits_for):
            return replace(known, verdict="fails")
        old = _result(runner, last.then(name, name))
        return replace(
            known, verdict="may run" if old is not None and not forced and _agrees(parts, old) else "would run"
        )
    key = action_key(parts)
    result = runner.cache.get(key)
    known = replace(known, key=key, result=result)
    if fresh:
        return replace(known, verdict="up to date")
    if forced or result is None:
        return known
    whole = runner.complete(result)
    return replace(known, verdict="cached" if whole else "would run", lost=not whole)


def _result(runner: Runner, key: ActionKey | None) -> ActionResult | None:
    return None if key is None else runner.cache.get(key)


def _agrees(parts: list[tuple[str, Json]], old: ActionResult) -> bool:
    """Whether all that is known is as it was."""
    then = dict(old.parts)
    return all(
        name in then and action_key([(name, value)]) == action_key([(name, then[name])]) for name, value in parts
    )


def _lost(found: Mapping[str, Judgement], builder: Builder, runner: Runner) -> Iterator[tuple[str, str]]:
    """Up to date actions that run all the same: the cache lost what they made, and something that runs reads it."""
    running = {name: judgement.runs and not judgement.waits_for for name, judgement in found.items()}
    for name, judgement in reversed(list(found.items())):
        if not running[name] or judgement.inputs is None:
            continue
        for key, source in judgement.action.inputs.items():
            if not isinstance(source, Output) or key not in judgement.inputs or running[source.action]:
                continue
            if not _whole(judgement.inputs[key], builder, runner):
                running[source.action] = True
                yield source.action, name


def _whole(source: InputDigest, builder: Builder, runner: Runner) -> bool:
    if source.kind != "tree":
        return runner.store.contains(source.digest, source.size)
    return not missing(runner.store, builder.tree(source.digest))
