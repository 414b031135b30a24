"""llama.cpp's quantiser, called through llama-cpp-python. Loads a native library: only for a process of its own."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

import llama_cpp

from flatpack_build.errors import StepError
from flatpack_build.events import progress

FTYPES: dict[str, int] = {
    "F32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "F16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q6_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q5_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "IQ4_NL": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_NL,
    "Q3_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q3_K_M,
    "Q2_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q2_K,
}

# llama.cpp logs "[  12/ 272]  blk.3.attn_k.weight …" for each tensor: the only progress it gives.
_TENSOR = re.compile(rb"\[\s*(\d+)/\s*(\d+)\]")


def quantise(source: Path, destination: Path, quant: str) -> None:
    """Write ``source`` (a GGUF) to ``destination`` with its weights as ``quant``, from any type (requantising allowed).

    Same input, same bytes, however many threads run. Raises ``StepError`` when llama.cpp refuses; its log is on
    standard error.
    """
    said: list[bytes] = []

    def log(level: int, text: bytes, _data: object) -> None:
        if level >= 3:
            said.append(text)
        match = _TENSOR.search(text)
        if match:
            progress(int(match[1]), int(match[2]), "tensors")
        sys.stderr.buffer.write(text)

    callback = llama_cpp.llama_log_callback(log)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FTYPES[quant]
    params.allow_requantize = True
    params.nthread = 0  # as many as there are cores: rows are independent, the bytes do not depend on it
    status = llama_cpp.llama_model_quantize(bytes(source), bytes(destination), ctypes.byref(params))
    sys.stderr.flush()
    if status != 0 or not destination.exists():
        reason = b"".join(said).decode(errors="replace").strip().splitlines()
        raise StepError(
            f"llama.cpp could not write the model as {quant}: {reason[-1] if reason else 'it gave no reason'}",
            hint="check that the source is a complete GGUF of an architecture that this llama.cpp knows",
        )
