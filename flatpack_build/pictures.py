"""From a flatpack's judgements to what is drawn of it. Reads only; knows no doit and no terminal."""

from __future__ import annotations

from flatpack_build.drawing.picture import DrawnAction, Picture
from flatpack_build.inspection import Inspection
from flatpack_build.judge import twins
from flatpack_build.params import CompressParams, ConvertParams, FetchParams


def picture(inspection: Inspection, flatpack: str) -> Picture:
    """All actions of a flatpack with their states. Raises ``FlatpackError``; ``LockError`` where there is no lock."""
    inspection.need_lock(flatpack)
    reasons = inspection.reasons(flatpack)
    shared = twins(reasons.judgements.values())
    drawn = []
    for name, judgement in reasons.judgements.items():
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
        if name in shared:
            verdict, note = "cached", f"it is the same as {shared[name]}, which would run"
        elif verdict != "up to date":
            note = reasons.reason(name)
        drawn.append(DrawnAction(name, judgement.action.step, subtitle, verdict, note, judgement.action.needs))
    return Picture(flatpack, drawn)
