"""Quantise a GGUF for a kind of hardware, and write down what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from flatpack_build.digest import Json, canonical_json
from flatpack_build.events import note
from flatpack_build.gguf import GgufHeader, read_header
from flatpack_build.llama import quantise
from flatpack_build.params import CompressParams

FLOATS = ("F32", "F16", "BF16")


def run(params: CompressParams, inputs: Mapping[str, Path], out: Path) -> None:
    """Input ``model`` -> ``out/model.gguf`` and ``out/model.json``: quantisation before and after, tensors by type."""
    write_quantised(inputs["model"], out, params.quant)


def write_quantised(source: Path, out: Path, quant: str) -> None:
    """The work of both ``compress`` and ``convert``."""
    before = read_header(source)
    if before.quantisation not in FLOATS:
        note(f"requantised from {before.quantisation} to {quant}: the losses of both add up")
    quantise(source, out / "model.gguf", quant)
    after = read_header(out / "model.gguf")
    types = Counter(tensor.type.name for tensor in after.tensors)
    fallbacks = _fallbacks(after, quant)
    if fallbacks:
        listed = ", ".join(f"{count} {name}" for name, count in sorted(fallbacks.items()))
        note(f"tensors that could not be {quant} because of their shape: {listed} (of {len(after.tensors)})")
    facts: dict[str, Json] = {
        "quantisation": quant,
        "from": before.quantisation,
        "requantised": before.quantisation not in FLOATS,
        "parameters": after.parameters,
        "tensors": dict(sorted(types.items())),
        "bytes": (out / "model.gguf").stat().st_size,
    }
    (out / "model.json").write_bytes(canonical_json(facts) + b"\n")


def _fallbacks(header: GgufHeader, quant: str) -> Counter[str]:
    """K-quants need rows that divide by 256; llama.cpp silently takes these types where they do not."""
    if not quant.endswith(("_K", "_K_M")):
        return Counter()
    return Counter(
        tensor.type.name
        for tensor in header.tensors
        if tensor.type.name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q8_0")
    )
