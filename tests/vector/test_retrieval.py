"""Questions about smollm2-chat, asked of the index of its own documents with the real table of word vectors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flatpack_build.params import IndexParams
from flatpack_build.steps.index import run
from flatpack_build.vector.embedders import StaticEmbedder
from flatpack_build.vector.index import VectorIndex

pytestmark = pytest.mark.network

FLATPACK = Path(__file__).resolve().parents[2] / "warehouse/smollm2-chat"

# As a user would ask, not in the manual's own words. Some are missed, and stay here all the same.
QUESTIONS = {
    "Which power supply do I need for the Raspberry Pi?": "On a Raspberry Pi 5",
    "How do I choose the power mode of the Jetson?": "On a Jetson Orin Nano",
    "Does it work on Windows or on a Mac?": "On a laptop",
    "How can I send a question from a program with HTTP?": "From a program",
    "How do I stop a running agent?": "Starting, listing and stopping",
    "Can I add my own PDF files?": "Your own documents",
    "How do I get back to the old version after an update?": "Updating",
    "How do I uninstall the assistant?": "Removing it",
    "What does it mean when the signature is not valid?": "The signature check fails",
    "The port is already in use, what now?": "The agent does not start",
    "Why does it take so long to reply?": "Answers are slow",
    "It keeps saying the same thing over and over": "Answers are wrong or repeat themselves",
    "May I use it for medical advice?": "What a small model can and cannot do",
    "How much accuracy is lost by 4-bit weights?": "What quantisation costs",
    "Are my questions sent over the internet?": "Privacy",
    "Under which licence is the model?": "Licences",
}


@pytest.fixture(scope="module")
def index(real_table: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    docs, out = tmp_path_factory.mktemp("docs"), tmp_path_factory.mktemp("index")
    shutil.copy(FLATPACK / "README.md", docs)
    shutil.copy(FLATPACK / "manual/operating-manual.pdf", docs)
    run(IndexParams(), {"docs": docs, "embedder": real_table[0].parent}, out)
    return VectorIndex.load(out, StaticEmbedder(*real_table))


def test_the_right_section_is_among_the_first_three(index: VectorIndex) -> None:
    ranks: dict[str, int] = {}
    for question, heading in QUESTIONS.items():
        found = [hit.chunk.heading[-1] for hit in index.search(question, 10)]
        ranks[question] = found.index(heading) if heading in found else 10
    first = sum(rank == 0 for rank in ranks.values())
    third = sum(rank < 3 for rank in ranks.values())
    print(f"hit rate at 1: {first}/{len(ranks)}, at 3: {third}/{len(ranks)}")
    # 12 and 15 of 16 when this was written; one less leaves room for a change of wording.
    assert first >= 11, ranks
    assert third >= 14, ranks


def test_the_real_table_is_what_it_is_taken_for(real_table: tuple[Path, Path]) -> None:
    embedder = StaticEmbedder(*real_table)
    assert embedder.dimensions == 256
    assert embedder.table_digest == "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
    king, queen, gravel = embedder.embed(["a king in his castle", "the queen of the palace", "a lorry full of gravel"])
    assert float(king @ queen) > 0.3 > float(king @ gravel)
