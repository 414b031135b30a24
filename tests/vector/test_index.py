from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from flatpack_build.digest import Digest
from flatpack_build.errors import StepError, VerificationError
from flatpack_build.vector.chunks import Chunk, chunk_id
from flatpack_build.vector.embedders import StaticEmbedder
from flatpack_build.vector.index import GraphSettings, VectorIndex, build_graph, on_grid, write_index
from tests.vector.small import small_embedder


@pytest.fixture
def embedder(tmp_path: Path) -> StaticEmbedder:
    return StaticEmbedder(*small_embedder(tmp_path / "embedder"))


def chunks(texts: list[str]) -> list[Chunk]:
    return [Chunk(chunk_id(text), text, "a.md", "line", 1, 1, ()) for text in texts]


def written(folder: Path, texts: list[str], embedder: StaticEmbedder) -> Path:
    folder.mkdir()
    write_index(folder, chunks(texts), embedder, GraphSettings(), embedder_files={}, chunking={})
    return folder


def many(count: int) -> list[str]:
    generator = np.random.default_rng(3)
    return [f"w{a} w{b} w{c} w{d}" for a, b, c, d in generator.integers(0, 63, (count, 4))]


def test_the_nearest_are_found_best_first(tmp_path: Path, embedder: StaticEmbedder) -> None:
    texts = sorted(set(many(2000)))
    index = VectorIndex.load(written(tmp_path / "index", texts, embedder), embedder)
    assert len(index) == len(texts)
    vectors = on_grid(embedder.embed(texts)).astype(np.float64)
    recalled = 0
    for query in texts[:50]:
        hits = index.search(query, 10)
        assert hits[0].chunk.text == query
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        exact = vectors @ on_grid(embedder.embed([query]))[0].astype(np.float64)
        # By score, not by text: several chunks may hold the same words in another order.
        recalled += sum(hit.score >= np.sort(exact)[-10] for hit in hits)
    assert recalled >= 0.98 * 500


def test_more_than_there_is_gives_all(tmp_path: Path, embedder: StaticEmbedder) -> None:
    index = VectorIndex.load(written(tmp_path / "index", ["w1", "w2", "w3"], embedder), embedder)
    assert {hit.chunk.text for hit in index.search("w2", 50)} == {"w1", "w2", "w3"}
    assert index.search("w2", 0) == []
    assert index.search("", 3) == []


def test_many_equal_vectors_are_all_found(tmp_path: Path, embedder: StaticEmbedder) -> None:
    texts = [f"w1 w{number}" for number in (2, 3, 4)] + ["other " * count for count in range(1, 400)]
    index = VectorIndex.load(written(tmp_path / "index", texts, embedder), embedder)
    for k in (1, 150, 402):
        hits = index.search("w1 w2", k)
        assert len({hit.chunk.id for hit in hits}) == k
        assert hits[0].chunk.text == "w1 w2"


def test_distances_are_exact_so_the_graph_is_the_same_on_every_processor() -> None:
    vectors = np.random.default_rng(1).standard_normal((500, 256)).astype(np.float32)
    vectors = on_grid(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    graph = build_graph(vectors, GraphSettings())
    graph.set_ef(500)
    labels, distances = graph.knn_query(vectors[:50], k=100, num_threads=1)
    wide = vectors.astype(np.float64)
    assert (distances == 1 - np.einsum("ik,ijk->ij", wide[:50], wide[labels])).all()
    assert (vectors == vectors.astype(np.float16)).all()


@pytest.mark.skipif(sys.platform != "linux", reason="the C++ library of other systems draws other random layers")
def test_the_graph_is_the_one_that_it_was(tmp_path: Path) -> None:
    """A change here changes every index: raise IndexParams.version with it."""
    generator = np.random.default_rng(5)
    vectors = on_grid((generator.integers(-100, 101, (300, 16)) / 400).astype(np.float32))
    build_graph(vectors, GraphSettings()).save_index(str(tmp_path / "g"))
    assert Digest.of_file(tmp_path / "g").short == "3f9331151038"


def test_another_embedder_is_refused(tmp_path: Path, embedder: StaticEmbedder) -> None:
    folder = written(tmp_path / "index", ["w1"], embedder)
    other = StaticEmbedder(*small_embedder(tmp_path / "other", seed=9))
    with pytest.raises(VerificationError, match="another embedder"):
        VectorIndex.load(folder, other)


@pytest.mark.parametrize("name", ["index.hnsw", "chunks.jsonl", "index.json"])
@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_damage_is_found_before_it_is_used(tmp_path: Path, embedder: StaticEmbedder, name: str, damage: str) -> None:
    file = written(tmp_path / "index", many(20), embedder) / name
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "short":
        file.write_bytes(data[: len(data) // 2])
    else:
        file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(VerificationError) as caught:
        VectorIndex.load(file.parent, embedder)
    assert caught.value.place is not None and caught.value.place.file == str(file)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"files": {}}, "not complete"),
        ({"embedder": None}, "not the facts"),
        ({"count": 3}, "2 chunks and 2 vectors where 3"),
    ],
)
def test_other_facts_are_refused(
    tmp_path: Path, embedder: StaticEmbedder, change: dict[str, object], message: str
) -> None:
    file = written(tmp_path / "index", ["w1", "w2"], embedder) / "index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(VerificationError, match=message):
        VectorIndex.load(file.parent, embedder)


def test_nothing_to_index_is_an_error(tmp_path: Path, embedder: StaticEmbedder) -> None:
    with pytest.raises(StepError, match="nothing to index") as caught:
        written(tmp_path / "index", [], embedder)
    assert caught.value.hint
