from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from flatpack_build.errors import StepError
from flatpack_build.vector.embedders import StaticEmbedder
from tests.vector.small import small_embedder


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return small_embedder(tmp_path / "embedder")


def test_an_embedding_is_the_normalised_sum_of_the_rows(files: tuple[Path, Path]) -> None:
    rows = load_file(files[0])["embedding.weight"]
    vectors = StaticEmbedder(*files).embed(["w0 w1 w5 w5 unknown", "w3"])
    assert vectors.shape == (2, 32)
    assert vectors.dtype == np.float32
    # In fractions, so without any rounding before the last step.
    sums = [sum(Fraction(float(rows[row, column])) for row in (1, 2, 6, 6, 0)) for column in range(32)]
    length = math.sqrt(sum(value * value for value in sums))
    assert vectors[0].tolist() == pytest.approx([float(value) / length for value in sums], abs=1e-7)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_the_bits_do_not_depend_on_what_else_is_embedded_or_in_which_order(files: tuple[Path, Path]) -> None:
    embedder = StaticEmbedder(*files)
    words = [f"w{number} w{number * 7 % 60} w{number * 11 % 60}" for number in range(60)]
    together = embedder.embed(words * 10)
    alone = np.concatenate([embedder.embed([text]) for text in words])
    turned = embedder.embed([" ".join(reversed(text.split())) for text in words])
    assert together[:60].tobytes() == alone.tobytes() == turned.tobytes()


def test_no_texts_and_no_tokens(files: tuple[Path, Path]) -> None:
    embedder = StaticEmbedder(*files)
    assert embedder.embed([]).shape == (0, 32)
    assert not embedder.embed(["", "  "]).any()


def test_the_digest_is_that_of_both_files(tmp_path: Path) -> None:
    first = StaticEmbedder(*small_embedder(tmp_path / "a"))
    assert first.digest == StaticEmbedder(*small_embedder(tmp_path / "b")).digest
    assert first.digest != StaticEmbedder(*small_embedder(tmp_path / "c", seed=8)).digest


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, files: tuple[Path, Path]) -> None:
    save_file({"x": np.zeros((3, 4), np.float16)}, tmp_path / "short.safetensors")
    with pytest.raises(StepError, match="do not belong together"):
        StaticEmbedder(tmp_path / "short.safetensors", files[1])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": np.zeros((80, 4), np.float16), "b": np.zeros((80, 4), np.float16)}, "2 tensors"),
        ({"a": np.zeros((80, 4), np.int32)}, "int32"),
        ({"a": np.zeros(80, np.float16)}, r"\(80,\)"),
        ({"a": np.full((80, 4), 1e6, np.float32)}, "not finite"),
    ],
)
def test_a_table_of_another_kind_is_refused(
    tmp_path: Path, files: tuple[Path, Path], tensors: dict[str, NDArray[Any]], message: str
) -> None:
    save_file(tensors, tmp_path / "t.safetensors")
    with pytest.raises(StepError, match=message) as caught:
        StaticEmbedder(tmp_path / "t.safetensors", files[1])
    assert caught.value.hint


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("data", [b"", b"nonsense", None])
def test_damaged_and_missing_files_are_refused(files: tuple[Path, Path], which: int, data: bytes | None) -> None:
    if data is None:
        files[which].unlink()
    else:
        files[which].write_bytes(data)
    with pytest.raises(StepError) as caught:
        StaticEmbedder(*files)
    assert caught.value.place is not None and caught.value.place.file == str(files[which])
