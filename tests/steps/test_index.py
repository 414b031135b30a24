from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flatpack_build import events
from flatpack_build.digest import Digest
from flatpack_build.errors import StepError
from flatpack_build.params import IndexParams
from flatpack_build.steps.index import run
from flatpack_build.vector.embedders import StaticEmbedder
from flatpack_build.vector.index import VectorIndex
from tests.heard import Heard
from tests.vector.small import small_embedder

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ["chunks.jsonl", "index.hnsw", "index.json"]


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    docs = tmp_path / "docs"
    (docs / "notes").mkdir(parents=True)
    (docs / "README.md").write_text("# w1 box\n\nw2 w3 w4. W5 w6 w7.\n\n## w8\n\nw9 w10 here.\n\nThe same.\n")
    (docs / "notes/a.txt").write_text("\n\n".join(f"W{number} w{number + 1} text." for number in range(40)))
    (docs / "notes/b.html").write_text("<h1>w1 box</h1><p>w20 w21</p><h2>w8</h2><p>w9 w10 here.</p><p>The same.</p>")
    small_embedder(tmp_path / "embedder/deep")
    (tmp_path / "out").mkdir()
    return {"docs": docs, "embedder": tmp_path / "embedder"}


def test_the_three_files_fit_together_and_can_be_searched(tmp_path: Path, inputs: dict[str, Path]) -> None:
    out = tmp_path / "out"
    run(IndexParams(chunk_sentences=3), inputs, out)
    assert sorted(path.name for path in out.iterdir()) == FILES
    facts = json.loads((out / "index.json").read_bytes())
    lines = [json.loads(line) for line in (out / "chunks.jsonl").read_bytes().splitlines()]
    assert facts["count"] == len(lines) == sum(facts["documents"].values())
    assert facts["chunking"] == {"sentences": 3, "max_characters": 1200, "repeated": 1}
    assert facts["graph"] == {"space": "ip", "m": 16, "ef_construction": 200, "seed": 100}
    (table,) = inputs["embedder"].rglob("*.safetensors")
    (tokenizer,) = inputs["embedder"].rglob("*.json")
    assert facts["embedder"]["files"] == {"table": Digest.of_file(table), "tokenizer": Digest.of_file(tokenizer)}
    index = VectorIndex.load(out, StaticEmbedder(table, tokenizer))
    hit = index.search("w1 box w8 w9 w10 here. The same.", 1)[0].chunk
    assert (hit.source, hit.first, hit.last, hit.heading) == ("README.md", 7, 9, ("w1 box", "w8"))


def test_two_processes_give_the_same_bytes_even_with_dirty_memory(tmp_path: Path, inputs: dict[str, Path]) -> None:
    program = (
        "import sys; from pathlib import Path; from flatpack_build.steps.index import run;"
        "from flatpack_build.params import IndexParams;"
        "run(IndexParams(), {'docs': Path(sys.argv[1]), 'embedder': Path(sys.argv[2])}, Path(sys.argv[3]))"
    )
    outputs: list[dict[str, bytes]] = []
    # glibc fills fresh memory with a byte made of MALLOC_PERTURB_: what is saved uninitialised would differ.
    for dirt in ("85", "170"):
        out = tmp_path / dirt
        out.mkdir()
        more = {"PYTHONPATH": str(REPOSITORY), "MALLOC_PERTURB_": dirt, "PYTHONHASHSEED": dirt}
        command = [sys.executable, "-c", program, *map(str, (inputs["docs"], inputs["embedder"], out))]
        subprocess.run(command, env=os.environ | more, check=True, timeout=120, cwd=tmp_path)
        outputs.append({name: (out / name).read_bytes() for name in FILES})
    assert outputs[0] == outputs[1]


def test_progress_and_a_note_are_reported(tmp_path: Path, inputs: dict[str, Path]) -> None:
    listener = Heard()
    with events.listening(listener):
        run(IndexParams(), inputs, tmp_path / "out")
    last = {unit: (done, total) for done, total, unit in listener.steps}
    assert last["documents read"] == (3, 3)
    done, total = last["chunks indexed"]
    assert done == total == last["chunks embedded"][0]
    assert listener.notes == [f"{total} chunks from 3 documents"]


def test_no_documents_is_an_error_with_a_hint(tmp_path: Path, inputs: dict[str, Path]) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(StepError, match="nothing to index") as caught:
        run(IndexParams(), inputs | {"docs": tmp_path / "nothing"}, tmp_path / "out")
    assert "[docs]" in caught.value.hint


def test_an_embedder_with_a_file_too_many_or_too_few_is_refused(tmp_path: Path, inputs: dict[str, Path]) -> None:
    (inputs["embedder"] / "second.json").write_text("{}")
    with pytest.raises(StepError, match=r"second\.json"):
        run(IndexParams(), inputs, tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(StepError, match="none"):
        run(IndexParams(), inputs | {"embedder": tmp_path / "bare"}, tmp_path / "out")


def test_an_unknown_embedder_is_refused(tmp_path: Path, inputs: dict[str, Path]) -> None:
    with pytest.raises(StepError, match="'other'"):
        run(IndexParams(embedder="other"), inputs, tmp_path / "out")
