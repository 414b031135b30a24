"""A flatpack that is whole and small: a real GGUF for the real quantiser, documents, an index and a build step.

It builds in a second or two with all the steps that a big one has, and needs no network.
"""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.fingerprint import action_key, walk
from flatpack_build.gguf import read_header
from flatpack_build.manifest.lock import Lock, LockedSource, write_lock
from flatpack_build.needs import EMBEDDER_SOURCE
from flatpack_build.store.folders import take_folder
from flatpack_build.store.local import LocalActionCache, LocalStore
from flatpack_build.store.protocol import ActionResult
from tests.gguf_files import Typed, gguf
from tests.vector.small import small_embedder

_WIDTH = 256
_TOKENS = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(61))]
_METADATA: dict[str, Typed] = {
    "general.architecture": (8, "llama"),
    "general.name": (8, "Small"),
    "general.file_type": (4, 1),
    "llama.block_count": (4, 1),
    "llama.context_length": (4, 128),
    "llama.embedding_length": (4, _WIDTH),
    "llama.feed_forward_length": (4, _WIDTH),
    "llama.attention.head_count": (4, 4),
    "llama.attention.head_count_kv": (4, 4),
    "llama.attention.layer_norm_rms_epsilon": (6, 1e-5),
    "tokenizer.ggml.model": (8, "llama"),
    "tokenizer.ggml.tokens": (9, (8, _TOKENS)),
    "tokenizer.ggml.scores": (9, (6, [0.0] * len(_TOKENS))),
    "tokenizer.ggml.token_type": (9, (5, [2, 3, 3, *([1] * 61)])),
}
_BLOCK = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")

MANIFEST = """\
version = "0.1.0"
description = "Small, but with everything"
targets = ["laptop", "pi5"]

[environment]
model_name = "{name}"

[model]
source = "file:model/small.gguf"
context = 128

[target.pi5]
model.quant = "Q4_0"

[docs]
files = ["README.md", "manual/*.md"]

[build.words]
command = "sort -u words.txt > sorted.txt; mkdir -p more; seq 1 30000 > more/numbers.txt"
inputs = ["words.txt"]
outputs = ["sorted.txt", "more"]
"""


def small_model(seed: int = 1) -> bytes:
    """A llama of one block, F16 with rows of 256: about 1 MB, random but always the same."""
    tensors: list[tuple[str, tuple[int, ...], int]] = [("token_embd.weight", (_WIDTH, len(_TOKENS)), 1)]
    tensors += [(f"blk.0.{part}.weight", (_WIDTH, _WIDTH), 1) for part in _BLOCK]
    tensors += [(f"blk.0.{part}.weight", (_WIDTH,), 0) for part in ("attn_norm", "ffn_norm")]
    tensors += [("output_norm.weight", (_WIDTH,), 0), ("output.weight", (_WIDTH, len(_TOKENS)), 1)]
    rows = random.Random(seed)
    data = bytearray()
    for _, shape, kind in tensors:
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        letter = "e" if kind == 1 else "f"
        data += struct.pack(f"<{count}{letter}", *(rows.gauss(0, 0.05) for _ in range(count)))
        data += bytes(-len(data) % 32)
    return gguf(_METADATA, tensors, data=bytes(data))


def write_flatpack(warehouse: Path, name: str = "small", *, seed: int = 1) -> Path:
    """A flatpack and its lock. What the lock names (an embedder of a few kilobytes) has still to be in the cache."""
    folder = warehouse / name
    (folder / "model").mkdir(parents=True)
    (folder / "manual").mkdir()
    model = folder / "model/small.gguf"
    model.write_bytes(small_model(seed))
    words = random.Random(seed)
    text = [" ".join(f"w{words.randrange(60)}" for _ in range(9)).capitalize() + "." for _ in range(120)]
    (folder / "README.md").write_text(f"# {name}\n\n" + "\n\n".join(text[:20]) + "\n")
    for number in range(2):
        part = text[20 + 50 * number : 70 + 50 * number]
        (folder / f"manual/part-{number}.md").write_text(f"# Part {number}\n\n" + "\n\n".join(part) + "\n")
    (folder / "words.txt").write_text("\n".join(" ".join(text).split()) + "\n")
    (folder / "flatpack.toml").write_text(MANIFEST.format(name=name))
    files = {model.name: Digest.of_file(model)}
    source = LockedSource("file:model/small.gguf", files, {}, model.stat().st_size, read_header(model).facts())
    write_lock(folder / "flatpack.lock", Lock({source.source: source, EMBEDDER_SOURCE: _embedder(folder)}))
    return folder


def _embedder(work: Path) -> LockedSource:
    parts = work / ".embedder"
    table, tokenizer = small_embedder(parts)
    files = {path.name: str(Digest.of_file(path)) for path in (table, tokenizer)}
    size = table.stat().st_size + tokenizer.stat().st_size
    shutil.rmtree(parts)
    return LockedSource(EMBEDDER_SOURCE, files, {"wheel": "small-0-py3-none-any.whl", "wheel_sha256": "0" * 64}, size)


def download(cache: Path, folder: Path) -> None:
    """Leave the embedder in ``cache`` as ``flatpack lock`` leaves what it has downloaded."""
    work = cache / "download"
    source = _embedder(folder)
    small_embedder(work)
    parts = list(walk(source.params(), {}, {}))
    tree = take_folder(LocalStore(cache), work)
    key = action_key(parts)
    LocalActionCache(cache).put(ActionResult(key, "lock", "fetch", tree.digest, tree.size, 0.0, 0, (), tuple(parts)))
    shutil.rmtree(work)
