"""From the names a person types to explanations. Reads only; knows no doit and no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatpack_build.explain import Explanation
from flatpack_build.inspection import Inspection


@dataclass(frozen=True)
class Explained:
    """``others`` counts the actions that were asked about and stay as they are."""

    explanations: tuple[Explanation, ...]
    others: int


def explain(inspection: Inspection, names: Sequence[str]) -> Explained:
    """A single task is explained whatever its state; of a box or a flatpack only what does not stay as it is.

    Raises ``FlatpackError``; ``LockError`` where there is no lock.
    """
    for flatpack in inspection.flatpacks(names):
        inspection.need_lock(flatpack)
    found: list[Explanation] = []
    stays: set[str] = set()
    for selected in inspection.select(names):
        reasons = inspection.reasons(selected.flatpack)
        explanations = reasons.explain(selected.actions, changed_only=selected.group)
        found += [explanation for explanation in explanations if explanation not in found]
        stays.update(selected.actions)
    stays -= {explanation.action for explanation in found}
    return Explained(tuple(found), len(stays))
