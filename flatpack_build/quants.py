"""Which quantisation a board gets when the manifest says ``auto``. Pure arithmetic over header and profile facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flatpack_build.gguf_size import cache_bytes, estimate_bytes

FLOATS = ("F32", "F16", "BF16")
DEFAULT_CONTEXT = 2048
_UBATCH = 512


def needed_memory(facts: Mapping[str, int | str | float], quant: str, context: int) -> int:
    """Bytes to run the model: weights, key/value cache in f16, and a compute buffer of vocabulary x 512 x 4 bytes."""
    vocabulary = int(facts.get("vocabulary", 0))
    return estimate_bytes(facts, quant) + cache_bytes(facts, context) + vocabulary * _UBATCH * 4


def choose(facts: Mapping[str, int | str | float], preferred: Sequence[str], memory: int, context: int) -> str | None:
    """The first of ``preferred`` (best quality first) that fits ``memory`` bytes (0: no limit); ``None`` if none does.

    A source that is quantised already and fits is kept as it is (``keep``): quantising it again can only lose.
    """
    current = str(facts.get("quantisation", ""))
    candidates = list(preferred)
    if current and current not in FLOATS:
        candidates.insert(0, "keep")
    for quant in candidates:
        if not memory or needed_memory(facts, current if quant == "keep" else quant, context) <= memory:
            return quant
    return None
