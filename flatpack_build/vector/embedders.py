"""Texts to vectors. An embedder reads its own two files and never the network; it knows no documents and no index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flatpack_build.digest import Digest, canonical_json
from flatpack_build.errors import Place, StepError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = 256
_HINT = "fetch the embedder again: it is one table (*.safetensors) and one tokenizer (*.json)"


class Embedder(Protocol):
    """Turns texts into vectors of length 1 whose inner product says how alike they are."""

    @property
    def name(self) -> str:
        """What kind it is, as ``IndexParams.embedder`` spells it."""

    @property
    def dimensions(self) -> int: ...

    @property
    def digest(self) -> Digest:
        """Over all that decides its vectors. Two indexes can be searched alike only if these are the same."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape ``(len(texts), dimensions)``, each row of length 1; a row of zeros for a text without tokens."""


class StaticEmbedder:
    """The mean of one table row for each token: no network, no matrix products, thousands of texts a second.

    ``table`` is a safetensors file with one float16 or float32 tensor of shape (tokens, dimensions), ``tokenizer``
    a ``tokenizer.json``. Raises ``StepError`` when they are no such files or do not belong together.
    """

    name = "static"

    def __init__(self, table: Path, tokenizer: Path) -> None:
        from tokenizers import Tokenizer  # 30 ms and a native library: only where something is embedded

        self._table = _read_table(table)
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # the library raises the bare class, for a missing file and bad JSON alike
            raise StepError(f"not a tokenizer: {error}", place=Place(str(tokenizer)), hint=_HINT) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        words = self._tokenizer.get_vocab_size()
        if words > len(self._table):
            raise StepError(
                f"the tokenizer knows {words} tokens, the table {len(self._table)}: they do not belong together",
                place=Place(str(tokenizer)),
                hint=_HINT,
            )
        self.table_digest = Digest.of_file(table)
        self.tokenizer_digest = Digest.of_file(tokenizer)
        self.digest = Digest.of_bytes(canonical_json([self.name, self.table_digest, self.tokenizer_digest]))

    @property
    def dimensions(self) -> int:
        return int(self._table.shape[1])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape ``(len(texts), dimensions)``, each row of length 1; a row of zeros for a text without tokens.

        The same text gives the same bits on every machine:

        - Numpy may add a row of numbers in any order, and the order (four, eight, sixteen lanes at once) differs
          between processors. The table holds float16 values, whose sums are exact in float64 up to 8,192 of the
          largest there are, and exact sums do not depend on their order.
        - The squares for the length are not exact, so they are added in an order that is spelled out.
        - Multiplication, division and square root of single numbers are the same everywhere (IEEE 754).
        """
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            encodings = self._tokenizer.encode_batch(batch, add_special_tokens=False)
            for row, encoding in enumerate(encodings, start=start):
                if encoding.ids:
                    vectors[row] = _normalised(self._table[encoding.ids].sum(axis=0, dtype=np.float64))
        return vectors


def _normalised(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = vector * vector
    while len(squares) > 1:
        half = len(squares) // 2
        odd = squares[2 * half :]
        squares = np.concatenate((squares[:half] + squares[half : 2 * half], odd))
    length = np.sqrt(squares[0])
    return vector / length if length > 0 else vector


def _read_table(path: Path) -> NDArray[np.float32]:
    """The only tensor of the file: float16 values, held as float32 because numpy adds those several times faster."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StepError(f"not a table of vectors: {error}", place=Place(str(path)), hint=_HINT) from error
    if len(tensors) != 1:
        raise StepError(f"{len(tensors)} tensors where one table is expected", place=Place(str(path)), hint=_HINT)
    table = next(iter(tensors.values()))
    if table.ndim != 2 or 0 in table.shape or table.dtype not in (np.float16, np.float32):
        raise StepError(
            f"a table of {table.dtype} {tuple(table.shape)}; expected is float16 or float32, (tokens, dimensions)",
            place=Place(str(path)),
            hint=_HINT,
        )
    with np.errstate(over="ignore"):  # a float32 beyond float16 becomes infinite, and is refused below
        values = table.astype(np.float16).astype(np.float32)
    if not np.isfinite(values).all():
        raise StepError("the table holds numbers that are not finite", place=Place(str(path)), hint=_HINT)
    return values
