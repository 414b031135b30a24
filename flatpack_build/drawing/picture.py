"""What is drawn: actions with their states, as plain data, and the same as Graphviz' dot. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatpack_build.explain import Verdict

VERDICTS: tuple[Verdict, ...] = ("would run", "may run", "fails", "cached", "up to date")
MEANING: dict[Verdict, str] = {
    "would run": "would run",
    "may run": "may run, if what it needs comes out different",
    "fails": "cannot be built",
    "cached": "comes from the cache",
    "up to date": "up to date",
}
_DOT = {"would run": "#ffd87a", "may run": "#fff0c2", "fails": "#ffb3ab", "cached": "#b9d8f5", "up to date": "#bfe6c4"}


@dataclass(frozen=True)
class DrawnAction:
    """``title`` and ``subtitle`` are what stands in its box, ``note`` what is said when one points at it."""

    name: str
    title: str
    subtitle: str
    verdict: Verdict
    note: str
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """One flatpack. ``actions`` in an order in which each stands after what it needs."""

    flatpack: str
    actions: Sequence[DrawnAction]

    def count(self, verdict: Verdict) -> int:
        return sum(action.verdict == verdict for action in self.actions)


def dot(pictures: Sequence[Picture]) -> str:
    """Input for Graphviz."""
    lines = [
        "digraph flatpacks {",
        "  rankdir=LR;",
        '  node [shape=box, style="filled,rounded", fontname="sans-serif"];',
    ]
    for number, picture in enumerate(pictures):
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(picture.flatpack)};"]
        for action in picture.actions:
            text = "\n".join(part for part in (action.title, action.subtitle, action.verdict) if part)
            dashed = ', style="filled,rounded,dashed"' if action.verdict == "may run" else ""
            lines.append(
                f"    {_quoted(action.name)} [label={_quoted(text)}, fillcolor={_quoted(_DOT[action.verdict])}, "
                f"tooltip={_quoted(action.note)}{dashed}];"
            )
        lines += [
            f"    {_quoted(need)} -> {_quoted(action.name)};" for action in picture.actions for need in action.needs
        ]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
