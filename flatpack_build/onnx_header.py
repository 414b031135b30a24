"""Whether a file can be an ONNX model, from its outermost protobuf fields. Knows nothing of what the graph does."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import BinaryIO, NoReturn

from flatpack_build.errors import Place, VerificationError

# Field numbers of ModelProto, and the wire type of each: 0 is a number, 2 is bytes with their length before them.
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_IR_VERSION, _GRAPH, _OPSETS = 1, 7, 8
_MAX_FIELDS = 100_000


def _fail(path: Path, reason: str, at: int) -> NoReturn:
    raise VerificationError(
        f"not a usable ONNX model: at byte {at}: {reason}",
        place=Place(path.name),
        hint="the file is damaged or not an ONNX model; fetch it again, or check what the source points to",
    )


def _varint(file: BinaryIO, path: Path) -> int:
    at = file.tell()
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            _fail(path, "the file ends inside a number", at)
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    _fail(path, "a number of more than ten bytes", at)


def check(path: Path) -> None:
    """Read the outermost fields of an ONNX model. Raises ``VerificationError``, also where it cannot be read."""
    seen: Counter[int] = Counter()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            while (at := file.tell()) < size:
                tag = _varint(file, path)
                number, wire = tag >> 3, tag & 7
                if _FIELDS.get(number) != wire:
                    _fail(path, f"an ONNX model has no field {number} of wire type {wire}", at)
                value = _varint(file, path)
                if number == _IR_VERSION and not 1 <= value <= 1000:
                    _fail(path, f"version {value} of the format does not exist", at)
                if wire == 2:
                    end = file.tell() + value
                    if end > size:
                        _fail(path, f"cut short: field {number} ends at byte {end}, the file has {size}", at)
                    file.seek(end)
                seen[number] += 1
                if seen.total() > _MAX_FIELDS:
                    _fail(path, "too many fields", at)
    except OSError as error:
        raise VerificationError(f"cannot be read: {error.strerror or error}", place=Place(str(path))) from error
    for number, what in ((_IR_VERSION, "format version"), (_GRAPH, "graph"), (_OPSETS, "operator set")):
        if not seen[number]:
            _fail(path, f"there is no {what}", size)
    if seen[_GRAPH] > 1:
        _fail(path, "there is more than one graph", size)
