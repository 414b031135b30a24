"""The step ``index``: documents to chunks, vectors and an HNSW graph. Knows no targets, no store and no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flatpack_build import events
from flatpack_build.errors import StepError
from flatpack_build.params import IndexParams
from flatpack_build.vector.chunks import MAX_CHARACTERS, Chunk, chunks_of, unique
from flatpack_build.vector.documents import document_paths, read_document
from flatpack_build.vector.embedders import StaticEmbedder
from flatpack_build.vector.index import GraphSettings, write_index


def run(params: IndexParams, inputs: Mapping[str, Path], out: Path) -> None:
    """Index the documents in ``inputs["docs"]`` with the embedder in ``inputs["embedder"]`` (one ``*.safetensors``,
    one ``*.json``). Raises ``StepError`` when a document cannot be read or nothing is left to index."""
    table, tokenizer = embedder_files(inputs["embedder"])
    chunks, repeated = _chunks(params, inputs["docs"])
    if params.embedder != StaticEmbedder.name:
        raise StepError(f"no embedder is called {params.embedder!r}", hint=f"there is: {StaticEmbedder.name}")
    embedder = StaticEmbedder(table, tokenizer)
    write_index(
        out,
        chunks,
        embedder,
        GraphSettings(params.m, params.ef_construction, params.seed),
        embedder_files={"table": embedder.table_digest, "tokenizer": embedder.tokenizer_digest},
        chunking={"sentences": params.chunk_sentences, "max_characters": MAX_CHARACTERS, "repeated": repeated},
    )
    documents = len({chunk.source for chunk in chunks})
    events.note(f"{len(chunks)} chunks from {documents} document{'' if documents == 1 else 's'}")


def embedder_files(folder: Path) -> tuple[Path, Path]:
    """The table and the tokenizer of the embedder in ``folder``, whatever they are called.

    Raises ``StepError`` unless there is exactly one ``*.safetensors`` and one ``*.json``.
    """
    found: list[Path] = []
    for pattern in ("*.safetensors", "*.json"):
        files = sorted(folder.rglob(pattern))
        if len(files) != 1:
            names = ", ".join(file.name for file in files) or "none"
            raise StepError(
                f"one {pattern} is expected below the embedder's folder; there is {names}",
                hint="an embedder is one table of vectors (*.safetensors) and one tokenizer (*.json)",
            )
        found.append(files[0])
    return found[0], found[1]


def _chunks(params: IndexParams, docs: Path) -> tuple[list[Chunk], int]:
    """All chunks, each text once, and how many were repeated."""
    paths = document_paths(docs)
    every: list[Chunk] = []
    for done, path in enumerate(paths, start=1):
        every += chunks_of(read_document(docs, path), sentences=params.chunk_sentences)
        events.progress(done, len(paths), "documents read")
    once = list(unique(every))
    return once, len(every) - len(once)
