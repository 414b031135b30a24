"""Chunks to an HNSW index on disk, and searching it. Knows the embedder by its protocol only, and no document formats.

On disk: ``index.hnsw`` (hnswlib's own format; the vectors are in it and nowhere else), ``chunks.jsonl`` (one chunk a
line; the line's number from 0 is its label in the index) and ``index.json`` (what the two were made with).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import hnswlib
import numpy as np

from flatpack_build import events
from flatpack_build.digest import Digest
from flatpack_build.errors import Place, StepError, VerificationError
from flatpack_build.vector.chunks import Chunk
from flatpack_build.vector.embedders import Embedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
INDEX_FILE, CHUNKS_FILE, FACTS_FILE = "index.hnsw", "chunks.jsonl", "index.json"

_GRID = 2048.0
_BATCH = 512
_EF_SEARCH = 100
_REBUILD = "build the flatpack again, or unbox it again"


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How the graph is built: neighbours a node, candidates looked at, the seed of its layers."""

    m: int = 16
    ef_construction: int = 200
    seed: int = 100


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk found. ``score`` is the cosine of the angle to the query: 1 the same, 0 nothing in common."""

    score: float
    chunk: Chunk


class _EmbedderFacts(TypedDict):
    name: str
    dimensions: int
    digest: str


class _Facts(TypedDict):
    """The part of ``index.json`` that is needed to open an index."""

    format: int
    embedder: _EmbedderFacts
    files: dict[str, str]
    count: int


def on_grid(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round every number to a multiple of 1/2048.

    Then all distances are the same on every machine, and so is the graph that hangs on them. A product of two such
    numbers is a multiple of 2**-22, and any partial sum of them over vectors of length 1 is hardly more than 1: it has
    at most 23 bits, and float32 holds 24. Exact sums depend neither on how many lanes the processor adds at once nor on
    fused multiply-add. The price is an error of about 0.0002 in a score. All these numbers are float16 values too.
    """
    return np.asarray(np.rint(vectors * np.float32(_GRID)) / np.float32(_GRID), dtype=np.float32)


def embed_chunks(chunks: Sequence[Chunk], embedder: Embedder) -> NDArray[np.float32]:
    """The vectors of the chunks' passages on the grid: shape ``(len(chunks), dimensions)``. Reports progress."""
    vectors = np.empty((len(chunks), embedder.dimensions), dtype=np.float32)
    for start in range(0, len(chunks), _BATCH):
        passages = [chunk.passage for chunk in chunks[start : start + _BATCH]]
        vectors[start : start + _BATCH] = on_grid(embedder.embed(passages))
        events.progress(min(start + _BATCH, len(chunks)), len(chunks), "chunks embedded")
    return vectors


def build_graph(vectors: NDArray[np.float32], settings: GraphSettings) -> hnswlib.Index:
    """An HNSW graph over the rows of ``vectors``, labelled from 0. One thread: more give other bytes every time."""
    count, dimensions = vectors.shape
    graph = hnswlib.Index(space="ip", dim=dimensions)
    graph.init_index(
        max_elements=count, M=settings.m, ef_construction=settings.ef_construction, random_seed=settings.seed
    )
    for start in range(0, count, _BATCH):
        part = vectors[start : start + _BATCH]
        graph.add_items(part, np.arange(start, start + len(part)), num_threads=1)
        events.progress(start + len(part), count, "chunks indexed")
    return graph


def write_index(
    out: Path,
    chunks: Sequence[Chunk],
    embedder: Embedder,
    settings: GraphSettings,
    *,
    embedder_files: dict[str, Digest],
    chunking: dict[str, int],
) -> None:
    """Embed and index ``chunks`` into the three files below ``out``, an existing folder.

    ``embedder_files`` (role -> sha256) and ``chunking`` go into the facts as they are. Raises ``StepError`` when there
    is no chunk.
    """
    if not chunks:
        raise StepError(
            "there is nothing to index: the documents gave no text",
            hint="name documents with text in them under [docs] files, or remove [docs]",
        )
    graph = build_graph(embed_chunks(chunks, embedder), settings)
    graph.save_index(str(out / INDEX_FILE))
    (out / CHUNKS_FILE).write_bytes(b"".join(chunk.to_json() + b"\n" for chunk in chunks))
    per_document: dict[str, int] = {}
    for chunk in chunks:
        per_document[chunk.source] = per_document.get(chunk.source, 0) + 1
    facts = {
        "format": FORMAT,
        "embedder": {
            "name": embedder.name,
            "dimensions": embedder.dimensions,
            "digest": embedder.digest,
            "files": embedder_files,
        },
        "graph": {"space": "ip", "m": settings.m, "ef_construction": settings.ef_construction, "seed": settings.seed},
        "chunking": chunking,
        "count": len(chunks),
        "documents": per_document,
        "files": {name: Digest.of_file(out / name) for name in (INDEX_FILE, CHUNKS_FILE)},
    }
    (out / FACTS_FILE).write_text(json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


class VectorIndex:
    """An index that was written by ``write_index``, open for searching. Safe to search from several threads."""

    def __init__(self, graph: hnswlib.Index, chunks: Sequence[Chunk], embedder: Embedder) -> None:
        self._graph = graph
        self._chunks = tuple(chunks)
        self._embedder = embedder
        # Set once: a search that changed it would change it under the feet of another.
        self._ef = max(_EF_SEARCH, min(len(self._chunks), 2 * _EF_SEARCH))
        graph.set_ef(self._ef)

    @classmethod
    def load(cls, folder: Path, embedder: Embedder) -> VectorIndex:
        """Open the index in ``folder``. Raises ``VerificationError`` when it is damaged, of another format, or was
        made with another embedder."""
        facts = _read_facts(folder)
        theirs = facts["embedder"]
        if theirs["digest"] != embedder.digest:
            raise VerificationError(
                f"the index was made with another embedder ({theirs['name']}, {Digest(theirs['digest']).short}; "
                f"this one is {embedder.name}, {embedder.digest.short})",
                place=Place(str(folder / FACTS_FILE)),
                hint="use the embedder that came with the index, or build the index again",
            )
        for name, digest in facts["files"].items():
            # hnswlib trusts every length it reads: a damaged file would crash the process, so it is checked before.
            if _digest_of(folder / name) != digest:
                raise VerificationError("the file is damaged", place=Place(str(folder / name)), hint=_REBUILD)
        graph = hnswlib.Index(space="ip", dim=embedder.dimensions)
        graph.load_index(str(folder / INDEX_FILE))
        try:
            chunks = [Chunk.from_json(line) for line in (folder / CHUNKS_FILE).read_bytes().splitlines()]
        except ValueError as error:
            raise VerificationError(str(error), place=Place(str(folder / CHUNKS_FILE)), hint=_REBUILD) from error
        if not len(chunks) == graph.get_current_count() == facts["count"]:
            raise VerificationError(
                f"{len(chunks)} chunks and {graph.get_current_count()} vectors where {facts['count']} are expected",
                place=Place(str(folder)),
                hint=_REBUILD,
            )
        return cls(graph, chunks, embedder)

    def __len__(self) -> int:
        return len(self._chunks)

    def search(self, query: str, k: int = 5) -> list[Hit]:
        """The ``k`` chunks nearest to ``query`` (all of them, if there are fewer), best first; equal ones in the order
        of their labels. An empty query finds nothing."""
        k = min(k, len(self._chunks))
        vector = on_grid(self._embedder.embed([query]))
        if k < 1 or not vector.any():
            return []
        labels = self._nearest(vector, k)
        scores = self._vectors(labels) @ vector[0]
        order = sorted(range(k), key=lambda at: (-float(scores[at]), labels[at]))
        return [Hit(float(scores[at]), self._chunks[labels[at]]) for at in order]

    def _nearest(self, vector: NDArray[np.float32], k: int) -> list[int]:
        if k <= self._ef:
            try:
                labels, _ = self._graph.knn_query(vector, k=k, num_threads=1)
            except RuntimeError:
                # Many equal vectors can cut the graph into parts, and hnswlib gives up when it reaches fewer than k.
                pass
            else:
                return [int(label) for label in labels[0]]
        scores = self._vectors(range(len(self._chunks))) @ vector[0]
        return [int(label) for label in np.argsort(-scores, kind="stable")[:k]]

    def _vectors(self, labels: Sequence[int]) -> NDArray[np.float32]:
        return np.asarray(self._graph.get_items(list(labels), return_type="numpy"), dtype=np.float32)


def _digest_of(path: Path) -> Digest:
    try:
        return Digest.of_file(path)
    except OSError as error:
        raise VerificationError(
            f"the index is not complete: {error.strerror}", place=Place(str(path)), hint=_REBUILD
        ) from error


def _read_facts(folder: Path) -> _Facts:
    path = folder / FACTS_FILE
    try:
        facts: _Facts = json.loads(path.read_bytes())
        if facts["format"] == FORMAT:
            embedder = facts["embedder"]
            wanted = {INDEX_FILE, CHUNKS_FILE}
            whole = {*facts["files"]} == wanted and {"name", "dimensions", "digest"} <= {*embedder}
            if whole and isinstance(facts["count"], int):
                return facts
            raise VerificationError("the facts are not complete", place=Place(str(path)), hint=_REBUILD)
        version = facts["format"]
    except OSError as error:
        raise VerificationError(f"no index here: {error.strerror}", place=Place(str(path)), hint=_REBUILD) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationError(f"not the facts of an index: {error}", place=Place(str(path)), hint=_REBUILD) from error
    raise VerificationError(
        f"the index is of format {version}; this program reads format {FORMAT}", place=Place(str(path)), hint=_REBUILD
    )
