"""GGUF files made for tests, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Typed: TypeAlias = tuple[int, object]
"""A value type's code, and a value of it. For arrays the value is (code of the items, items)."""

_LETTERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_SIZES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144)}

METADATA: Mapping[str, Typed] = {
    "general.architecture": (8, "llama"),
    "general.name": (8, "Tiny"),
    "general.file_type": (4, 1),
    "llama.block_count": (4, 2),
    "llama.context_length": (4, 128),
    "llama.embedding_length": (4, 64),
    "llama.attention.head_count": (4, 4),
    "llama.attention.head_count_kv": (4, 2),
    "tokenizer.ggml.tokens": (9, (8, ["<s>", "a", "b", "ä"])),
    "tokenizer.ggml.scores": (9, (6, [0.0, 1.0, 2.0, 3.0])),
}
TENSORS: Sequence[tuple[str, tuple[int, ...], int]] = (
    ("token_embd.weight", (64, 4), 1),
    ("blk.0.attn_v.weight", (64, 32), 8),
    ("output_norm.weight", (64,), 0),
)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value(code: int, item: object) -> bytes:
    if code == 8:
        assert isinstance(item, (str, bytes))
        return text(item)
    if code == 9:
        assert isinstance(item, tuple)
        inner, items = item
        return struct.pack("<IQ", inner, len(items)) + b"".join(value(inner, each) for each in items)
    return struct.pack("<" + _LETTERS[code], item)


def gguf(
    metadata: Mapping[str, Typed] = METADATA,
    tensors: Sequence[tuple[str, tuple[int, ...], int]] = TENSORS,
    *,
    version: int = 3,
    alignment: int = 32,
    data: bytes | None = None,
) -> bytes:
    """A whole file. The tensors' bytes are zeros unless ``data`` is given."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, (code, item) in metadata.items():
        head += text(key) + struct.pack("<I", code) + value(code, item)
    offset = 0
    for name, shape, kind in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        count = 1
        for number in shape:
            count *= number
        block, size = _SIZES.get(kind, (1, 1))
        offset += -(-count // block * size // alignment) * alignment
    head += bytes(-len(head) % alignment)
    return head + (bytes(offset) if data is None else data)
