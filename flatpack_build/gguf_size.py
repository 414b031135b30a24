"""How much memory a model takes, however quantised, from the facts of its header alone. Pure; reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from flatpack_build.errors import PlanError
from flatpack_build.gguf_types import TENSOR_TYPES

Facts: TypeAlias = Mapping[str, int | str | float]
_BITS = {kind.name: kind.bits for kind in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class Mix:
    """What llama.cpp makes of a model, in bits per weight.

    ``aligned`` is the mean over the matrices whose rows divide by 256, ``unaligned`` over the others (a K-quant falls
    back to a larger type there), ``base`` the type that the name promises, ``base_unaligned`` what that falls back to.
    """

    aligned: float
    unaligned: float
    base: str
    base_unaligned: str


def _plain(name: str) -> Mix:
    return Mix(_BITS[name], _BITS[name], name, name)


# A K-quant keeps attn_v, ffn_down and attn_output (about 2, 27 and 8 of 100 weights) in larger types: ``aligned`` is
# the mean with these shares, ``unaligned`` was measured. They are within 3 of 100 of what the quantiser really writes.
MIXES: Mapping[str, Mix] = {
    **{name: _plain(name) for name in ("F32", "F16", "BF16", "Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1")},
    "Q6_K": Mix(6.5625, 8.5, "Q6_K", "Q8_0"),
    "Q5_K_M": Mix(5.66, 6.05, "Q5_K", "Q5_1"),
    "Q5_K_S": Mix(5.5, 6.0, "Q5_K", "Q5_1"),
    "Q4_K_M": Mix(4.81, 5.56, "Q4_K", "Q5_0"),
    "Q4_K_S": Mix(4.54, 5.51, "Q4_K", "Q5_0"),
    "IQ4_NL": Mix(4.56, 4.5, "IQ4_NL", "IQ4_NL"),
    "IQ4_XS": Mix(4.32, 4.5, "IQ4_XS", "IQ4_NL"),
    "Q3_K_L": Mix(4.2, 4.75, "Q3_K", "Q4_0"),
    "Q3_K_M": Mix(3.86, 4.67, "Q3_K", "Q4_0"),
    "Q3_K_S": Mix(3.44, 4.5, "Q3_K", "Q4_0"),
    "Q2_K": Mix(2.95, 4.5, "Q2_K", "Q4_0"),
}
"""Every quantisation whose size can be told beforehand."""


def _whole(facts: Facts, key: str) -> int:
    value = facts.get(key)
    if not isinstance(value, int):
        raise PlanError(
            f"the lock does not say the model's {key.replace('_', ' ')}",
            hint="is it a GGUF? run: flatpack lock <name>",
        )
    return value


def estimate_bytes(facts: Facts, quant: str) -> int:
    """Bytes of the GGUF that quantising the model of these facts to ``quant`` gives, to about 3 in 100.

    Exact where the model already is ``quant``. Raises ``PlanError`` for a ``quant`` not in ``MIXES`` and for facts
    that are not of a GGUF.
    """
    header = _whole(facts, "header_size")
    if facts.get("quantisation") == quant:
        return header + _whole(facts, "data_size")
    mix = MIXES.get(quant)
    if mix is None:
        raise PlanError(f"no size is known for the quantisation {quant!r}", hint=f"one of: {', '.join(MIXES)}")
    embedding, output = _whole(facts, "embedding_parameters"), _whole(facts, "output_parameters")
    matrices, unaligned = _whole(facts, "matrix_parameters"), _whole(facts, "unaligned_parameters")
    vectors = _whole(facts, "parameters") - matrices - embedding - output
    ragged = _whole(facts, "embedding_length") % 256 != 0
    base = _BITS[mix.base_unaligned if ragged else mix.base]
    # The table that gives the next token (the only one, where both are tied) is kept at no less than this.
    head = max(base, _BITS["Q8_0" if ragged else "Q6_K"])
    bits = (
        (matrices - unaligned) * mix.aligned
        + unaligned * mix.unaligned
        + embedding * (base if output else head)
        + output * head
        + vectors * _BITS["F32"]
    )
    return header + round(bits / 8)


def cache_bytes(facts: Facts, context: int) -> int:
    """Bytes of the attention cache for ``context`` tokens, keys and values at 16 bits. Raises ``PlanError``."""
    return 2 * _whole(facts, "layers") * _whole(facts, "kv_heads") * _whole(facts, "head_dim") * context * 2
