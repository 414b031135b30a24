"""The bill of one box: what a plan's actions, sources and wheels come to as ``Materials``. Pure, like the plan."""

from __future__ import annotations

from collections.abc import Mapping

from flatpack_build.action import Action, Input, Output
from flatpack_build.digest import canonical_json
from flatpack_build.manifest.lock import LockedSource, LockedWheels
from flatpack_build.manifest.tables import Model
from flatpack_build.materials import ModelUse, Role, SourceUse, StepUse, WheelUse
from flatpack_build.needs import EMBEDDER_LICENSES, EMBEDDER_NOTE


def source_use(role: Role, locked: LockedSource, place: str, model: Model | None) -> SourceUse:
    """What the records say about a locked source. A user's file goes by its name: where it lies is nobody's business."""
    asked = locked.params()
    licenses: tuple[str, ...] = ()
    if role == "embedder":
        licenses = EMBEDDER_LICENSES
    elif role == "model" and model and model.license:
        licenses = (model.license,)
    note = EMBEDDER_NOTE if role == "embedder" else ""
    return SourceUse(role, asked.source, asked.files, asked.identity, place, licenses, note)


def wheel_uses(locked: LockedWheels) -> tuple[WheelUse, ...]:
    """The wheels by file name."""
    wheels = sorted(locked.wheels, key=lambda wheel: wheel.filename)
    return tuple(WheelUse(wheel.name, wheel.version, wheel.filename, wheel.sha256) for wheel in wheels)


def model_use(model: Model, locked: LockedSource, quantisation: str) -> ModelUse:
    """``quantisation`` is that of the model in the box."""
    suffix = next(iter(locked.files)).rpartition(".")[2].lower()
    return ModelUse(model.format or suffix, quantisation, str(locked.facts.get("quantisation", "")))


def steps_behind(inputs: Mapping[str, Input], actions: Mapping[str, Action]) -> tuple[StepUse, ...]:
    """Every step that had a part in ``inputs``, each once, in an order of their own. Actions' names are left out: they
    depend on what other targets there are. So are fetches: the sources say all of it."""
    waiting = [source.action for source in inputs.values() if isinstance(source, Output)]
    found: dict[bytes, StepUse] = {}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        params = actions[name].params
        waiting.extend(actions[name].needs)
        if params.step != "fetch":
            use = StepUse(params.step, params.version, params.key_json())
            found[canonical_json([use.step, use.parameters])] = use
    return tuple(use for _, use in sorted(found.items()))
