"""The model of a box: its source, the signature on it, and the quantisation that this target gets. Pure, like the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from flatpack_build.action import Input, Output
from flatpack_build.digest import Json
from flatpack_build.manifest.lock import Fact
from flatpack_build.manifest.tables import Model
from flatpack_build.params import CompressParams, ConvertParams, VerifyParams
from flatpack_build.plan.draft import Draft
from flatpack_build.quants import DEFAULT_CONTEXT, FLOATS, choose

_FOLDER = "models"


@dataclass(frozen=True)
class PlannedModel:
    """``output`` is to lie at ``place`` in the box; ``quant`` is its quantisation as a person reads it."""

    output: Output
    place: str
    quant: str

    def described(self, model: Model) -> dict[str, Json]:
        """``[model]`` for the box's own manifest: there the model lies beside it, ready, and that manifest is valid too."""
        described: dict[str, Json] = {"source": f"file:{self.place}", "quant": "keep"}
        if model.license:
            described["license"] = model.license
        if model.context:
            described["context"] = model.context
        return described


@dataclass(frozen=True)
class _File:
    """The one file that a model is, as it is locked. ``format`` is ``gguf`` or ``onnx``."""

    name: str
    digest: str
    format: str
    facts: Mapping[str, Fact]


def plan_model(draft: Draft, model: Model) -> PlannedModel:
    """Add the actions from the model's source to the file in the box. Raises ``PlanError``."""
    file = _file(draft, model)
    verified = _verified(draft, model, file)
    quant = _onnx_quant(draft, model) if file.format == "onnx" else _gguf_quant(draft, model, file.facts)
    if quant == "keep":
        current = str(file.facts.get("quantisation", "")) or "as it is"
        return PlannedModel(verified, f"{_FOLDER}/{file.name}", current)
    params = ConvertParams(quant) if quant in FLOATS else CompressParams(quant)
    made = Output(draft.add(params, {"model": verified}), "model.gguf")
    return PlannedModel(made, f"{_FOLDER}/{draft.manifest.name}-{quant}.gguf", quant)


def _file(draft: Draft, model: Model) -> _File:
    locked = draft.locked(model.source)
    path = draft.only_file(model.source, "model", "model", "source")
    digest = locked.files[path]
    kind = model.format or path.rpartition(".")[2].lower()
    if kind not in ("gguf", "onnx"):
        raise draft.error(f"cannot tell the format of {path!r}", "model", hint='add format = "gguf" or format = "onnx"')
    if model.sha256 and model.sha256 != digest:
        raise draft.error(
            f"the manifest pins sha256 {model.sha256}, but flatpack.lock resolved the source to {digest}",
            "model",
            "sha256",
            hint="one of the two is wrong: check where the model comes from, then run: flatpack lock",
        )
    return _File(PurePosixPath(path).name, digest, kind, locked.facts)


def _verified(draft: Draft, model: Model, file: _File) -> Output:
    """The model, fetched, and its signature checked where it has one."""
    base = draft.question.manifest.model
    own = base is None or base.source != model.source  # other targets have another model, or none
    fetched = draft.fetch(model.source, "model", per_target=own)
    inputs: dict[str, Input] = {"file": Output(fetched, file.name)}
    keys: tuple[str, ...] = ()
    if model.signature:
        signature = draft.fetch(model.signature, "signature", part="signature", per_target=own)
        inputs["signature"] = Output(signature, draft.only_file(model.signature, "signature", "model", "signature"))
        keys = tuple(draft.question.read_text(path) for path in model.public_keys) or draft.question.trusted_keys
        if not keys:
            raise draft.error(
                "the model has a signature, but no key is trusted to have made it",
                "model",
                "signature",
                hint='name one: public_keys = ["keys/vendor.pub.pem"], or trusted_keys in pyproject.toml',
            )
    params = VerifyParams(file.name, file.digest, file.format, keys, model.signature_hash)
    return Output(draft.add(params, inputs, per_target=own), file.name)


def _onnx_quant(draft: Draft, model: Model) -> str:
    if model.quant not in ("auto", "keep"):
        raise draft.error(
            f"an ONNX model cannot be quantised to {model.quant} yet", "model", "quant", hint='use quant = "keep"'
        )
    return "keep"


def _gguf_quant(draft: Draft, model: Model, facts: Mapping[str, Fact]) -> str:
    if model.quant in ("int8", "int4"):
        raise draft.error(
            f"{model.quant} is for ONNX models",
            "model",
            "quant",
            hint="for a GGUF use Q8_0, Q4_K_M or another of its types",
        )
    chosen: str | None = model.quant
    if model.quant == "auto":
        context, profile = model.context or DEFAULT_CONTEXT, draft.profile
        chosen = choose(facts, profile.gguf_quants, profile.model_memory, context)
        if chosen is None:
            raise draft.error(
                f"no quantisation of this model with a context of {context} fits the "
                f"{profile.model_memory_mb} MB that {draft.target} has for it",
                "model",
                "context",
                hint="take a smaller model, a shorter context, or leave this target out",
            )
    return "keep" if chosen == facts.get("quantisation") else str(chosen)
