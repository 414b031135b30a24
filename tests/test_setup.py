"""``tools/setup.sh`` says what is missing, before it makes or fetches anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [
    "pyproject.toml",
    "requirements/lock.txt",
    "requirements/build.txt",
    "tools/setup.sh",
    "tools/llama-lean.cmake",
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "a checkout"
    for file in FILES:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    return root


def set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(checkout / "tools/setup.sh")],
        env={"PATH": os.environ["PATH"], "HOME": str(checkout), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def test_a_python_that_is_too_old(checkout: Path) -> None:
    bin_folder = checkout / "bin"
    for version in ("", ".11", ".12", ".13", ".14"):
        program(bin_folder, f"python3{version}", 'test "$1" = --version && echo Python 3.9.2')
    result = set_up(checkout, PATH=f"{bin_folder}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "Python 3.11 or newer is needed; there is Python 3.9.2 here" in result.stderr
    assert "apt-get install" in result.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_was_named_and_does_not_fit(checkout: Path) -> None:
    result = set_up(checkout, PYTHON="/bin/false")
    assert result.returncode == 1
    assert "/bin/false is not Python 3.11 or newer" in result.stderr


def test_a_python_without_venv(checkout: Path) -> None:
    python = program(checkout / "bin", "python", f'case "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"')
    result = set_up(checkout, PYTHON=str(python))
    assert result.returncode == 1
    assert "python3-venv" in result.stderr
    assert not (checkout / ".venv").exists()
