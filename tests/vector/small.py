"""A real embedder of a few kilobytes: random rows for made-up words, in the file formats of the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = 64


def small_embedder(folder: Path, *, dimensions: int = 32, seed: int = 7) -> tuple[Path, Path]:
    """Write a table and a tokenizer that knows the words ``w0`` to ``w62`` and one row for all others."""
    folder.mkdir(parents=True, exist_ok=True)
    table, tokenizer = folder / "table.safetensors", folder / "tokenizer.json"
    rows = np.random.default_rng(seed).standard_normal((WORDS, dimensions)).astype(np.float16)
    save_file({"embedding.weight": rows}, table)
    vocabulary = {"[UNK]": 0} | {f"w{number}": number + 1 for number in range(WORDS - 1)}
    model = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    model.save(str(tokenizer))
    return table, tokenizer
