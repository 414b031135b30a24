"""Turn a model into one of float weights, the form in which it is measured or quantised further."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flatpack_build.params import ConvertParams
from flatpack_build.steps.compress import write_quantised


def run(params: ConvertParams, inputs: Mapping[str, Path], out: Path) -> None:
    """Input ``model`` (a GGUF) -> ``out/model.gguf`` with float tensors, and ``out/model.json``."""
    write_quantised(inputs["model"], out, params.quant)
