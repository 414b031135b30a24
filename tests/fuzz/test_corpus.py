"""What the fuzzer has learned and found, once more: without atheris, in every test run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.reader import Reader

CORPUS = Path(__file__).parent / "corpus"


def test_the_corpus_is_read_or_refused(tmp_path: Path) -> None:
    inputs = sorted(CORPUS.iterdir())
    assert len(inputs) > 100
    reader = Reader(tmp_path)
    kinds = set()
    for path in inputs:
        data = path.read_bytes()
        kinds.add(data[:1])
        try:
            reader.take(data)
        except BaseException as error:
            error.add_note(f"with {path}")
            raise
    assert kinds >= {kind.encode() for kind in "bsliucmfg"}
    assert reader.unpacked > 10  # it is no use if all is refused for the same reason


def test_a_finding_is_one(tmp_path: Path) -> None:
    """What would be wrong is raised: something left beside the box, and any error that is none of ours."""
    reader = Reader(tmp_path)
    (tmp_path / "work" / "left").mkdir()
    with pytest.raises(AssertionError, match="left"):
        reader.take(b"bno box")
    (tmp_path / "work" / "left").rmdir()
    shutil.rmtree(tmp_path / "work")
    with pytest.raises(FileNotFoundError):
        reader.take(b"bno box")


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine")
def test_the_fuzzer_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.fuzz_box", "-runs=300", f"-artifact_prefix={tmp_path}/", str(tmp_path)]
    result = subprocess.run(
        [*command, str(CORPUS)], capture_output=True, text=True, check=False, cwd=CORPUS.parent.parent.parent
    )
    assert result.returncode == 0, result.stderr
    assert "INFO: Instrumenting flatpack_build.box.tar" in result.stderr
