"""From a flatpack's judgements to what is drawn of it. Reads only; knows no doit and no terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flatpack_build.drawing.picture import DrawnAction, Picture
from flatpack_build.inspection import Inspection
from flatpack_build.judge import twins
from flatpack_build.params import CompressParams, ConvertParams, FetchParams
from flatpack_build.reasons import same_as


def pictures(inspection: Inspection, names: Sequence[str]) -> list[Picture]:
    """The named flatpacks, each with its actions and their states; of a box or a task only what it needs.

    Flatpacks without a lock are left out. Raises ``FlatpackError``.
    """
    wanted: dict[str, set[str]] = {}
    selection = inspection.select(names)
    untouched = inspection.untouched(selection)
    for selected in selection:
        closure = inspection.graph(selected.flatpack).closure(selected.actions)
        wanted.setdefault(selected.flatpack, set()).update(closure)
    return [_picture(inspection, name, wanted[name], untouched) for name in wanted]


def _picture(inspection: Inspection, flatpack: str, wanted: Collection[str], untouched: Collection[str]) -> Picture:
    reasons = inspection.reasons(flatpack)
    shared = twins(reasons.judgements[name] for name in reasons.judgements if name in wanted)
    drawn = []
    for name, judgement in reasons.judgements.items():
        if name not in wanted:
            continue
        params = judgement.action.params
        about = name.partition(":")[2].removeprefix(flatpack)
        part, _, target = about.removeprefix("/").partition("@")
        words = [part, target]
        if isinstance(params, CompressParams | ConvertParams):
            words.append(params.quant)
        if isinstance(params, FetchParams) and not part:
            words.append("the model")
        subtitle = ", ".join(word for word in words if word) or "for all targets"
        verdict, note = judgement.verdict, ""
        if name in untouched:
            verdict = "up to date"
        elif name in shared:
            verdict, note = "cached", same_as(shared[name])
        elif verdict != "up to date":
            note = reasons.reason(name)
        drawn.append(DrawnAction(name, judgement.action.step, subtitle, verdict, note, judgement.action.needs))
    return Picture(flatpack, drawn)
