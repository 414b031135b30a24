"""Projects made of the real flatpacks of this repository, built as a user builds them: by running doit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
GREETING = """\
version = "0.1.0"
targets = ["laptop", "pi5"]

[environment]
model_name = "small"

[build.greeting]
command = "tr a-z A-Z < words.txt > greeting.txt"
inputs = ["words.txt"]
outputs = ["greeting.txt"]
"""
"""The manifest of a flatpack that is whole and built at once. Its folder needs ``WORDS`` as well."""
WORDS = {"words.txt": "hello\n"}


def obey_interrupts() -> None:
    """What is started in the background of a script ignores SIGINT, and so would all that these tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Project:
    """A project folder of its own with a cache, and what a user does in it."""

    root: Path
    cache: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "FLATPACK_CACHE": os.fspath(self.cache), "NO_COLOR": "1"}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment; without ``check`` a failure is the test's to judge."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done

    def doit(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("doit", *arguments, check=check)

    def flatpack(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("flatpack_build", *arguments, check=check)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program of this environment, which obeys SIGINT; what it says comes as one stream."""
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.root, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=obey_interrupts,
        )  # fmt: skip

    def built(self, *arguments: str) -> list[str]:
        """Build, and say which actions ran (not those whose results came from the cache)."""
        return [line["action"] for line in self.record(*arguments) if line["state"] == "built"]

    def record(self, *arguments: str) -> list[dict[str, str]]:
        """Build, and read the record of what was not up to date."""
        file = self.root / "build/record.jsonl"
        file.unlink(missing_ok=True)
        self.doit(*arguments)
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [line for line in lines if line["state"] != "up to date"]

    @property
    def boxes(self) -> dict[str, Path]:
        """Target -> box."""
        return {path.stem.split("-0.1.0-")[1]: path for path in sorted((self.root / "dist").glob("*.fpk"))}

    def write(self, name: str, manifest: str, files: Mapping[str, str | bytes] | None = None) -> Path:
        """Put a flatpack into the warehouse, or other files into it; its folder."""
        folder = self.root / "warehouse" / name
        for path, content in {"flatpack.toml": manifest, **(files or {})}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new))


def make_project(root: Path, cache: Path, *flatpacks: str) -> Project:
    root.mkdir(parents=True)
    (root / "pyproject.toml").write_text('[tool.doit]\nloader = "flatpack"\n\n[tool.flatpack-build]\n')
    for name in flatpacks:
        shutil.copytree(REPOSITORY / "warehouse" / name, root / "warehouse" / name)
    (root / "warehouse").mkdir(exist_ok=True)
    project = Project(root, cache)
    project.flatpack("keygen", "--development")
    return project


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests with the real model share, so that it is downloaded once."""
    return tmp_path_factory.mktemp("model-cache")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project with a cache of its own."""
    return make_project(tmp_path / "project", tmp_path / "cache")
