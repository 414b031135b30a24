"""From the names a person types to explanations. Reads only; knows no doit and no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flatpack_build.explain import Explanation
from flatpack_build.inspection import Inspection
from flatpack_build.judge import Judgement, twins
from flatpack_build.reasons import same_as


@dataclass(frozen=True)
class Explained:
    """``others`` counts the actions that were asked about and stay as they are; of ``unlocked`` flatpacks, that were not
    asked for by name, nothing is known."""

    explanations: tuple[Explanation, ...]
    others: int
    unlocked: tuple[str, ...] = ()


def explain(inspection: Inspection, names: Sequence[str]) -> Explained:
    """A single task is explained whatever its state; of a box or a flatpack only what does not stay as it is. Without
    names: of the whole warehouse.

    Raises ``FlatpackError``; ``LockError`` where what was named has no lock.
    """
    unlocked = [flatpack for flatpack in inspection.flatpacks(names) if not inspection.locked(flatpack)]
    for flatpack in unlocked if names else ():
        inspection.need_lock(flatpack)
    found: list[Explanation] = []
    stays: set[str] = set()
    closure: dict[str, Judgement] = {}
    selection = inspection.select(names)
    untouched = inspection.untouched(selection)
    for selected in selection:
        stays.update(selected.actions)
        if untouched.issuperset(selected.actions):
            continue
        reasons = inspection.reasons(selected.flatpack)
        needed = inspection.graph(selected.flatpack).closure(selected.actions)
        closure |= {name: judgement for name, judgement in reasons.judgements.items() if name in needed}
        for explanation in reasons.explain(selected.actions, changed_only=selected.group):
            if not any(replace(explanation, since=known.since) == known for known in found):
                found.append(explanation)
    shared = twins(closure.values())
    explanations = [
        replace(explanation, verdict="cached", reason=same_as(shared[explanation.action]))
        if explanation.action in shared
        else explanation
        for explanation in found
    ]
    stays -= {explanation.action for explanation in explanations}
    return Explained(tuple(explanations), len(stays), tuple(unlocked))
