"""How each action of a build ended, those that did not run included. Pure: outcomes in, lines out."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flatpack_build.builder import Outcome
from flatpack_build.graph import Graph
from flatpack_build.record import ActionLine


def remaining_lines(
    ended: Mapping[str, ActionLine],
    outcomes: Mapping[str, Outcome],
    graphs: Collection[Graph],
    selected: Collection[str],
) -> list[ActionLine]:
    """The lines of actions that are not in ``ended``: those that were up to date, then those of ``selected`` that the
    build did not come to, each with the reason."""
    lines = [
        ActionLine.of_result(name, outcome.state, outcome.seconds, outcome.result)
        for name, outcome in list(outcomes.items())  # interrupted threads may still be at it
        if name not in ended
    ]
    failed = {name for name, line in list(ended.items()) if line.state == "failed"}
    for graph in graphs:
        for name, action in graph.actions.items():
            if name in selected and name not in outcomes and name not in failed:
                blocked = sorted(failed & graph.closure([name]))
                why = f"needs {', '.join(blocked)}" if blocked else "the build ended before"
                lines.append(ActionLine(name, action.step, "not run", error=why))
    return lines
