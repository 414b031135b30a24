"""Builds of the small flatpack in folders of their own, and what must hold after each, however the one before ended."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flatpack_build.digest import Digest
from tests.faults.small import download, write_flatpack

_SEPARATOR = b"---SIGNATURE_SEPARATOR---"
_PYPROJECT = '[tool.doit]\nloader = "flatpack"\n\n[tool.flatpack-build]\n'


@dataclass
class Ground:
    """A project and a cache. ``temporary`` is what the builds take for ``/tmp``."""

    root: Path
    project: Path = field(init=False)
    cache: Path = field(init=False)
    temporary: Path = field(init=False)

    def __post_init__(self) -> None:
        self.project, self.cache, self.temporary = self.root / "project", self.root / "cache", self.root / "temporary"

    def copy(self, root: Path) -> Ground:
        """Everything again, below another folder."""
        shutil.copytree(self.root, root, symlinks=True)
        return Ground(root)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            "FLATPACK_CACHE": os.fspath(self.cache),
            "TMPDIR": os.fspath(self.temporary),
            "NO_COLOR": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **more,
        }

    def start(
        self, *arguments: str, program: str = "flatpack_build", before: tuple[str, ...] = (), **more: str
    ) -> subprocess.Popen[str]:
        """Start ``flatpack <arguments>`` in a session of its own; ``before`` is a command that runs it."""
        return subprocess.Popen(
            [*before, sys.executable, "-m", program, *arguments],
            cwd=self.project,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def build(self, *arguments: str, before: tuple[str, ...] = (), **more: str) -> tuple[int, str]:
        """Build to the end: the exit status, and all that was said."""
        return finish(self.start("build", *(arguments or ("small",)), before=before, **more))

    def doit(self, *arguments: str) -> tuple[int, str]:
        return finish(self.start(*arguments, program="doit"))

    def good_build(self, *arguments: str, before: tuple[str, ...] = (), **more: str) -> str:
        status, said = self.build(*arguments, before=before, **more)
        assert status == 0, said
        return said

    def bad_build(self, *arguments: str, before: tuple[str, ...] = (), **more: str) -> str:
        status, said = self.build(*arguments, before=before, **more)
        assert status != 0, said
        return said

    def payloads(self) -> Mapping[str, Digest]:
        """What must always come out the same: box -> digest of what was signed."""
        return {
            box.name: Digest.of_bytes(box.read_bytes().rpartition(_SEPARATOR)[0])
            for box in sorted((self.project / "dist").glob("*.fpk"))
        }

    def record(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.project / "build/record.jsonl").read_text().splitlines()]

    def blobs(self) -> list[Path]:
        return sorted(path for path in (self.cache / "blobs").rglob("*") if path.is_file())

    def assert_clean(self) -> None:
        """Nothing temporary is left anywhere, and every blob is what its name says."""
        left = [path for folder in (self.cache / "tmp", self.cache / "locks") for path in folder.rglob("*")]
        left += list(self.temporary.iterdir())
        for folder in (self.cache, self.project):
            left += [path for path in folder.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]
        assert left == []
        assert [blob for blob in self.blobs() if Digest.of_file(blob) != blob.name] == []


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status, and all that was said; whatever happened, that is no traceback."""
    said, _ = process.communicate(timeout=120)
    assert "Traceback" not in said, said
    assert "this is a bug" not in said, said
    return process.returncode, said


def make_ground(root: Path, *names: str, keys: Path | None = None) -> Ground:
    """A project with flatpacks of these names, and a cache that holds what their locks name."""
    ground = Ground(root)
    ground.temporary.mkdir(parents=True)
    ground.project.mkdir()
    (ground.project / "pyproject.toml").write_text(_PYPROJECT)
    for seed, name in enumerate(names, start=1):
        folder = write_flatpack(ground.project / "warehouse", name, seed=seed)
        download(ground.cache, folder)
    if keys is not None:
        shutil.copytree(keys, ground.project / "keys")
    else:
        with ground.start("keygen", "--development") as process:
            process.communicate(timeout=60)
    return ground


def remove(folder: Path) -> None:
    """Also what is read-only."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IRWXU)
    shutil.rmtree(folder)
