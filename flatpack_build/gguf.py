"""Read a GGUF file's header, strictly and in one pass, and say what the model costs. Knows nothing of llama.cpp.

Nothing in the file is believed: no memory is taken for a length that the file names before that many bytes were seen
to be there, and every refusal says at which byte. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from flatpack_build.errors import Place, VerificationError
from flatpack_build.gguf_cursor import ARRAY, BOOL, SCALARS, STRING, Cursor, Readable
from flatpack_build.gguf_size import cache_bytes, estimate_bytes
from flatpack_build.gguf_types import FILE_TYPES, TENSOR_TYPES, TensorType

__all__ = [
    "GgufArray", "GgufHeader", "GgufTensor", "cache_bytes", "estimate_bytes", "is_gguf", "read_header", "read_stream",
]  # fmt: skip

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_NAME = 64 * 1024
MAX_KEPT = 4096
"""Arrays of more numbers than this, and all arrays of strings, are kept as their length only."""
MAX_NUMBERS = 1 << 20
"""So many numbers are kept of all arrays together; as Python has them they take up to twenty times their bytes."""
MAX_ENTRIES = 1 << 16
MAX_TENSORS = 1 << 18
MAX_ARRAYS = 1 << 18
"""What a header may list. Those of the largest models have some hundred entries and some thousand tensors."""
MAX_DIMENSIONS = 4
MAX_NESTING = 8


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array that was skipped: how many items it has."""

    length: int


Number: TypeAlias = int | float | bool
Value: TypeAlias = Number | str | tuple[Number, ...] | GgufArray


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """``shape`` as the file has it: first the length of a row. ``offset`` counts from where the data begins."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements // self.type.block * self.type.size


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF says about itself. ``data_offset`` is where the tensors' bytes begin."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[GgufTensor, ...]
    data_offset: int
    file_size: int

    def _text(self, key: str) -> str:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def _whole(self, key: str) -> int:
        """A whole number of the architecture's own; of a list with one for each layer the mean, rounded up."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple):
            mean = sum(value) / len(value) if value else 0
            return math.ceil(mean) if math.isfinite(mean) else 0
        return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0

    @property
    def architecture(self) -> str:
        return self._text("general.architecture")

    @property
    def name(self) -> str:
        return self._text("general.name")

    @cached_property
    def parameters(self) -> int:
        """How many numbers all tensors have together."""
        return sum(tensor.elements for tensor in self.tensors)

    @cached_property
    def data_size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def quantisation(self) -> str:
        """The name of ``general.file_type``; where the file has none, the type that most of the numbers have."""
        code = self.metadata.get("general.file_type")
        if isinstance(code, int) and code in FILE_TYPES:
            return FILE_TYPES[code]
        weight: Counter[str] = Counter()
        for tensor in self.tensors:
            weight[tensor.type.name] += tensor.elements
        return weight.most_common(1)[0][0] if weight else ""

    @property
    def layers(self) -> int:
        return self._whole("block_count")

    @property
    def heads(self) -> int:
        return self._whole("attention.head_count")

    @property
    def kv_heads(self) -> int:
        return self._whole("attention.head_count_kv") or self.heads

    @property
    def head_dim(self) -> int:
        return self._whole("attention.key_length") or (
            self._whole("embedding_length") // self.heads if self.heads else 0
        )

    @property
    def context_length(self) -> int:
        """The longest context the model was made for, in tokens."""
        return self._whole("context_length")

    @cached_property
    def vocabulary(self) -> int:
        """Tokens."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, GgufArray):
            return tokens.length
        table = self._tensor("token_embd.weight")
        return self._whole("vocab_size") or (table.shape[1] if table and len(table.shape) > 1 else 0)

    def _tensor(self, name: str) -> GgufTensor | None:
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    def facts(self) -> dict[str, int | str]:
        """What a plan needs to choose a quantisation without the file, and what a person wants to know. Plain values.

        ``matrix_parameters`` are those a quantiser changes, but for the tables of tokens; of these
        ``unaligned_parameters`` stand in rows that do not divide by 256, which no K-quant can hold.
        """
        aligned = unaligned = 0
        tables = {name: self._tensor(name) for name in ("token_embd.weight", "output.weight")}
        for tensor in self.tensors:
            if len(tensor.shape) < 2 or tensor.name in tables or not tensor.name.endswith("weight"):
                continue
            if tensor.shape[0] % 256:
                unaligned += tensor.elements
            else:
                aligned += tensor.elements
        embedding, output = tables["token_embd.weight"], tables["output.weight"]
        return {
            "architecture": self.architecture,
            "context_length": self.context_length,
            "data_size": self.data_size,
            "embedding_length": self._whole("embedding_length"),
            "embedding_parameters": embedding.elements if embedding else 0,
            "head_dim": self.head_dim,
            "header_size": self.data_offset,
            "kv_heads": self.kv_heads,
            "layers": self.layers,
            "matrix_parameters": aligned + unaligned,
            "name": self.name,
            "output_parameters": output.elements if output else 0,
            "parameters": self.parameters,
            "quantisation": self.quantisation,
            "unaligned_parameters": unaligned,
            "vocabulary": self.vocabulary,
        }


def _array(cursor: Cursor, key: str, depth: int) -> Value:
    what = f"the array {key!r}"
    at = cursor.position
    cursor.arrays += 1
    if cursor.arrays > MAX_ARRAYS:
        cursor.fail(f"with {what} there are more than {MAX_ARRAYS} arrays", at=at)
    code = cursor.u32(f"the type of {what}")
    length = cursor.u64(f"the length of {what}")
    if code in SCALARS:
        kind = SCALARS[code]
        cursor.need(length * kind.size, what)
        if length > MAX_KEPT or cursor.numbers + length > MAX_NUMBERS:
            cursor.skip(length * kind.size, what)
            return GgufArray(length)
        cursor.numbers += length
        data = cursor.take(length * kind.size, what)
        values = tuple(item[0] for item in kind.iter_unpack(data))
        return tuple(bool(value) for value in values) if code == BOOL else values
    if code == STRING:
        cursor.need(length * 8, what)
        cursor.skip_texts(length, what)
        return GgufArray(length)
    if code == ARRAY:
        if depth >= MAX_NESTING:
            cursor.fail(f"{what} is nested more than {MAX_NESTING} deep", at=at)
        cursor.need(length * 12, what)
        for _ in range(length):
            _array(cursor, key, depth + 1)
        return GgufArray(length)
    return cursor.fail(f"{what} has items of the unknown type {code}", at=at)


def _value(cursor: Cursor, key: str) -> Value:
    at = cursor.position
    code = cursor.u32(f"the type of {key!r}")
    if code in SCALARS:
        value = cursor.unpack(SCALARS[code], repr(key))
        return bool(value) if code == BOOL else value
    if code == STRING:
        return cursor.long_text(repr(key))
    if code == ARRAY:
        return _array(cursor, key, 1)
    return cursor.fail(f"{key!r} is of the unknown type {code}", at=at)


def _tensor(cursor: Cursor) -> GgufTensor:
    at = cursor.position
    name = cursor.text("a tensor's name", limit=MAX_NAME)
    dimensions = cursor.u32(f"the dimensions of {name!r}")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        cursor.fail(f"tensor {name!r} has {dimensions} dimensions; 1 to {MAX_DIMENSIONS} are allowed", at=at)
    shape = tuple(cursor.u64(f"the shape of {name!r}") for _ in range(dimensions))
    if 0 in shape or math.prod(shape) >= 1 << 63:
        cursor.fail(f"tensor {name!r} has the impossible shape {list(shape)}", at=at)
    code = cursor.u32(f"the type of {name!r}")
    kind = TENSOR_TYPES.get(code)
    if kind is None:
        cursor.fail(f"tensor {name!r} is of the unknown type {code}", at=at)
    if shape[0] % kind.block:
        cursor.fail(f"tensor {name!r} has rows of {shape[0]} numbers, which {kind.name} cannot hold", at=at)
    return GgufTensor(name, shape, kind, cursor.u64(f"the offset of {name!r}"))


def _start(cursor: Cursor) -> tuple[int, int, int]:
    if cursor.size < 4 or (magic := cursor.take(4, "the magic number")) != MAGIC:
        found = "an empty file" if not cursor.size else "a shorter file" if cursor.size < 4 else repr(magic)
        cursor.fail(f"a GGUF begins with {MAGIC!r}, this is {found}", at=0)
    version = cursor.u32("the version")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        reason = f"version {version} is not known (2 and 3 are)"
        if swapped in VERSIONS:
            reason = "it is big-endian; only little-endian files are supported"
        elif version == 1:
            reason = "version 1 is too old: convert it with a current llama.cpp"
        cursor.fail(reason, at=4)
    return version, cursor.u64("the number of tensors"), cursor.u64("the number of metadata entries")


def _check_data(cursor: Cursor, tensors: list[GgufTensor], data_offset: int, alignment: int, at: int) -> None:
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset % alignment:
            cursor.fail(f"tensor {tensor.name!r} begins at {tensor.offset}, which {alignment} does not divide", at=at)
        if tensor.offset < end:
            cursor.fail(f"tensor {tensor.name!r} overlaps the one before it", at=at)
        end = tensor.offset + tensor.size
    if data_offset + end > cursor.size and tensors:
        raise VerificationError(
            f"cut short: the header promises {data_offset + end} bytes, the file has {cursor.size}",
            place=Place(cursor.file),
            hint="fetch the file again; if the source itself is short, ask whoever made it",
        )


def read_stream(stream: Readable, size: int, file: str) -> GgufHeader:
    """Read the header from a stream of ``size`` bytes, called ``file`` in errors. Takes little more than the header.

    Raises ``VerificationError`` for whatever is not a whole, valid GGUF; ``OSError`` from the stream.
    """
    cursor = Cursor(stream, size, file)
    version, tensor_count, entry_count = _start(cursor)
    cursor.need(entry_count * 13, f"metadata of {entry_count} entries")
    if entry_count > MAX_ENTRIES:
        cursor.fail(f"it says that it has {entry_count} metadata entries; at most {MAX_ENTRIES} are read", at=16)
    metadata: dict[str, Value] = {}
    for _ in range(entry_count):
        at = cursor.position
        key = cursor.text("a metadata key", limit=MAX_NAME)
        if key in metadata:
            cursor.fail(f"metadata {key!r} stands there twice", at=at)
        metadata[key] = _value(cursor, key)
    at = cursor.position
    if not isinstance(metadata.get("general.architecture"), str):
        cursor.fail("the metadata has no general.architecture", at=at)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment % 8 or alignment > 1 << 20:
        cursor.fail(f"general.alignment is {alignment!r}; a multiple of 8 is expected", at=at)
    cursor.need(tensor_count * 32, f"a list of {tensor_count} tensors")
    if tensor_count > MAX_TENSORS:
        cursor.fail(f"it says that it has {tensor_count} tensors; at most {MAX_TENSORS} are read", at=8)
    tensors: list[GgufTensor] = []
    names: set[str] = set()
    for _ in range(tensor_count):
        place = cursor.position
        tensor = _tensor(cursor)
        if tensor.name in names:
            cursor.fail(f"tensor {tensor.name!r} stands there twice", at=place)
        names.add(tensor.name)
        tensors.append(tensor)
    data_offset = -(-cursor.position // alignment) * alignment
    _check_data(cursor, tensors, data_offset, alignment, at)
    return GgufHeader(version, metadata, tuple(tensors), data_offset, size)


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of a file. Raises ``VerificationError``, also where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return read_stream(file, path.stat().st_size, path.name)
    except OSError as error:
        raise VerificationError(f"cannot be read: {error.strerror or error}", place=Place(str(path))) from error


def is_gguf(path: Path) -> bool:
    """Whether the file begins like a GGUF. Raises ``OSError``."""
    with open(path, "rb") as file:
        return file.read(4) == MAGIC
