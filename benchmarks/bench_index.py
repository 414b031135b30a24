"""What indexing costs: texts embedded a second, and our build of the graph against calling hnswlib directly.

Run it with a folder that holds the embedder's two files: ``python -m benchmarks.bench_index <folder> [chunks]``.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import hnswlib
import numpy as np

from flatpack_build.digest import Digest
from flatpack_build.steps.index import embedder_files
from flatpack_build.vector.chunks import Chunk, chunk_id
from flatpack_build.vector.embedders import StaticEmbedder
from flatpack_build.vector.index import GraphSettings, VectorIndex, build_graph, on_grid, write_index

WORDS = Path(__file__).resolve().parents[1] / "warehouse/smollm2-chat/manual/source/operating-manual.md"
PAIRS = 3


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def passages(count: int) -> list[str]:
    """Texts of 60 words in no order, so that no two are alike."""
    words = WORDS.read_text(encoding="utf-8").split()
    generator = np.random.default_rng(0)
    return [" ".join(words[at] for at in generator.integers(0, len(words), 60)) for _ in range(count)]


def direct(vectors: np.ndarray) -> hnswlib.Index:
    """The fewest calls that give the same graph."""
    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    graph.init_index(max_elements=len(vectors), M=16, ef_construction=200, random_seed=100)
    graph.add_items(vectors, num_threads=1)
    return graph


def main() -> None:
    table, tokenizer = embedder_files(Path(sys.argv[1]))
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    print(f"opening the embedder: {seconds(lambda: StaticEmbedder(table, tokenizer)):.2f} s")
    embedder = StaticEmbedder(table, tokenizer)
    texts = passages(count)
    short = [" ".join(text.split()[:8]) for text in texts]
    for name, those in (("60 words", texts), ("8 words", short)):
        rate = statistics.median(count / seconds(partial(embedder.embed, those)) for _ in range(PAIRS))
        print(f"embedding texts of {name}: {rate:,.0f} texts/s")
    vectors = on_grid(embedder.embed(texts))
    settings = GraphSettings()
    pairs = [(seconds(lambda: build_graph(vectors, settings)), seconds(lambda: direct(vectors))) for _ in range(PAIRS)]
    ours, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"graph of {count:,} x {embedder.dimensions}: {ours:.2f} s; hnswlib directly {theirs:.2f} s; {ratio:.2f} x")
    chunks = [Chunk(chunk_id(text), text, "bench.md", "line", 1, 1, ()) for text in texts]
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        files: dict[str, Digest] = {}
        whole = seconds(lambda: write_index(out, chunks, embedder, settings, embedder_files=files, chunking={}))
        print(f"all of it (embed, build, write): {whole:.2f} s, {whole / theirs:.2f} x hnswlib alone")
        index = VectorIndex.load(out, embedder)
        times = sorted(seconds(partial(index.search, query, 5)) for query in short[:500])
        print(f"a search: median {1000 * times[len(times) // 2]:.2f} ms, 99% below {1000 * times[-5]:.2f} ms")


if __name__ == "__main__":
    main()
