"""Whatever is done to a project, in whatever order: the next build gives what a build from nothing gives.

Here through doit itself, with its stamps, kept plans and remembered digests; tests/test_builder.py does the same with
random graphs. FLATPACK_EDITS says how many builds each of the tests makes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from flatpack_build.digest import Digest, canonical_json
from tests.e2e.conftest import Project, make_project

_BUILDS = int(os.environ.get("FLATPACK_EDITS", "12"))
_SEED = os.environ.get("FLATPACK_SEED", "1")
_SEPARATOR = b"---SIGNATURE_SEPARATOR---"
_NAMES = ("one", "two")
_FILES = ("words.txt", "more/words.txt", "notes.txt", "README.md")
# Of one length, so that the size gives nothing away.
_TEXTS = ("first\n", "other\n", "third\n")
_MANIFEST = """\
version = "0.1.0"
description = "{description}"
targets = ["laptop", "board"]

[environment]
model_name = "{name}"

[build.loud]
command = "{command}"
inputs = ["words.txt"]
outputs = ["loud.txt"]

[build.both]
command = "cat loud.txt words.txt > both.txt"
inputs = ["loud.txt", "words.txt"]
outputs = ["both.txt"]
per_target = {per_target}
"""
_PROFILE = """\
description = "A board"
architecture = "aarch64"
os = "linux"
glibc = "2.36"
python = "3.11"
gguf_quants = ["Q4_0"]
threads = {threads}
"""


class Shaken:
    """A project that is edited at random. ``clean`` is where it is built from nothing, for comparison."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.project = make_project(folder / "project", folder / "cache")
        self.chance = chance
        self.clean = folder / "clean"
        self.root = self.project.root
        self._known: dict[Digest, Mapping[str, Digest]] = {}
        for name in _NAMES:
            for file in _FILES:
                self._write(self.root / "warehouse" / name / file, chance.choice(_TEXTS))
            self._manifest(name)
        self.profile()

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _manifest(self, name: str) -> None:
        command = self.chance.choice(["tr a-z A-Z < words.txt > loud.txt", "cat words.txt > loud.txt"])
        text = _MANIFEST.format(
            name=name,
            description=self.chance.choice(["A", "B"]),
            command=command,
            per_target=self.chance.choice(["true", "false"]),
        )
        self._write(self.root / "warehouse" / name / "flatpack.toml", text)

    def _file(self) -> Path:
        """One of the flatpacks' own files that no manifest names, or that one does, and that is there."""
        files = [path for name in _NAMES for file in _FILES if (path := self.root / "warehouse" / name / file).exists()]
        return self.chance.choice(files)

    # --- edits

    def edit(self) -> None:
        self._file().write_text(self.chance.choice(_TEXTS))

    def edit_and_set_the_time_back(self) -> None:
        path = self._file()
        status = path.stat()
        path.write_text(self.chance.choice(_TEXTS))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def replace(self) -> None:
        path = self._file()
        beside = path.with_name("beside")
        beside.write_text(self.chance.choice(_TEXTS))
        os.replace(beside, path)

    def swap(self) -> None:
        one, two = self._file(), self._file()
        if one != two:
            aside = one.with_name("aside")
            one.rename(aside)
            two.rename(one)
            aside.rename(two)

    def touch(self) -> None:
        self._file().touch()

    def chmod(self) -> None:
        self._file().chmod(self.chance.choice([0o644, 0o755]))

    def add_or_remove(self) -> None:
        path = self.root / "warehouse" / self.chance.choice(_NAMES) / self.chance.choice(["notes.txt", "more/new.txt"])
        if path.exists():
            path.unlink()
        else:
            self._write(path, self.chance.choice(_TEXTS))

    def manifest(self) -> None:
        self._manifest(self.chance.choice(_NAMES))

    def profile(self) -> None:
        self._write(self.root / "targets/board.toml", _PROFILE.format(threads=self.chance.choice([2, 4])))

    def nothing(self) -> None: ...

    # --- accidents

    def lose_a_box(self) -> None:
        for box in self.chance.sample(sorted((self.root / "dist").glob("*.fpk")), 1):
            box.unlink()

    def mix_up_boxes(self) -> None:
        """One stands where another should, or what stands there is short."""
        boxes = sorted((self.root / "dist").glob("*.fpk"))
        one, two = self.chance.choice(boxes), self.chance.choice(boxes)
        data = one.read_bytes()[: self.chance.choice([None, 100])]
        two.unlink()
        two.write_bytes(data)

    def lose_what_was_kept(self) -> None:
        kept = self.chance.choice(["build", "build/stamps", "build/plans", "build/digests", "build/last", "dist"])
        shutil.rmtree(self.root / kept, ignore_errors=True)

    def lose_from_the_cache(self) -> None:
        folder = self.project.cache / self.chance.choice(["blobs", "actions"])
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in self.chance.sample(files, len(files) // 3):
            path.unlink()

    def forget(self) -> None:
        self.project.doit("forget", self.chance.choice(["build:one", "run:two/loud", "pack:one@board"]))

    def disturb(self) -> str:
        edits: list[Callable[[], None]] = [
            self.edit, self.edit, self.edit_and_set_the_time_back, self.replace, self.swap, self.touch, self.chmod,
            self.add_or_remove, self.manifest, self.profile, self.nothing,
        ]  # fmt: skip
        accidents = [
            self.lose_a_box, self.mix_up_boxes, self.lose_what_was_kept, self.lose_from_the_cache, self.forget,
        ]  # fmt: skip
        chosen = self.chance.choices(edits, k=self.chance.randrange(3))
        if (self.root / "dist").exists() and len(list((self.root / "dist").glob("*.fpk"))) > 1:
            chosen += self.chance.choices(accidents, k=self.chance.randrange(2))
        for change in chosen:
            change()
        return ", ".join(change.__name__ for change in chosen) or "nothing"

    # --- builds

    def payloads(self, dist: Path) -> dict[str, Digest]:
        return {
            box.name: Digest.of_bytes(box.read_bytes().rpartition(_SEPARATOR)[0]) for box in sorted(dist.glob("*.fpk"))
        }

    def from_nothing(self) -> Mapping[str, Digest]:
        """What a build of these very files gives where nothing was ever built."""
        files = sorted(path for path in self.root.rglob("*") if path.is_file() and "warehouse" in path.parts)
        files.append(self.root / "targets/board.toml")
        state = Digest.of_bytes(
            canonical_json(
                [[str(path.relative_to(self.root)), path.read_text(), path.stat().st_mode & 0o100] for path in files]
            )
        )
        if state not in self._known:
            shutil.rmtree(self.clean, ignore_errors=True)
            ignore = shutil.ignore_patterns("build", "dist")
            shutil.copytree(self.root, self.clean / "project", ignore=ignore)
            other = Project(self.clean / "project", self.clean / "cache")
            other.doit()
            self._known[state] = self.payloads(other.root / "dist")
        return self._known[state]


@pytest.mark.parametrize("number", range(2))
def test_random_edits_and_accidents(tmp_path: Path, number: int) -> None:
    chance = random.Random(f"{_SEED}:{number}")
    shaken = Shaken(tmp_path, chance)
    shaken.project.doit()
    for _ in range(_BUILDS):
        done = shaken.disturb()
        wanted = chance.choice(["", "", "build:one", "build:two@board", "build:one@laptop"])
        print(f"{done}; doit {wanted}")
        shaken.project.doit(*([wanted] if wanted else []))
        name, _, target = wanted.removeprefix("build:").partition("@")
        expected = {
            box: digest
            for box, digest in shaken.from_nothing().items()
            if box.startswith(name) and box.endswith(f"{target}.fpk")
        }
        built = shaken.payloads(shaken.root / "dist")
        assert expected
        assert {box: built.get(box) for box in expected} == expected
