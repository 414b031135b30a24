"""Makes warehouses of any size out of tiny flatpacks: N of them, 3 targets each, 7 actions a target. Knows no timing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from os import environ
from pathlib import Path

TARGETS = ("laptop", "pi5", "jetson-orin-nano")
ACTIONS_PER_TARGET = 7  # four build steps, device, assemble, pack

_MANIFEST = """\
version = "0.1.0"
targets = ["laptop", "pi5", "jetson-orin-nano"]

[environment]
model_name = "{name}"
"""

_STEP = """
[build.{step}]
command = "cat {source} > {step}.txt; echo $FLATPACK_TARGET >> {step}.txt"
inputs = ["{source}"]
outputs = ["{step}.txt"]
per_target = true
"""

# Packing has a process of its own, for the sake of large models. Tens of thousands of tiny boxes take hours that way.
_BUILD = """\
import sys
from doit.doit_cmd import DoitMain
from flatpack_build.params import PackParams
PackParams.isolated = False
sys.exit(DoitMain().run(sys.argv[1:]))
"""
_BATCH = 250

_LOCK = "# made by `flatpack lock`; commit it\nversion = 1\n"


def name_of(number: int) -> str:
    return f"pack-{number:05d}"


def make_warehouse(root: Path, count: int) -> None:
    """A project in ``root`` with ``count`` flatpacks. Their build steps are alike, so a cold build shares most of them."""
    (root / "warehouse").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[tool.doit]\nloader = "flatpack"\n\n[tool.flatpack-build]\n')
    for number in range(count):
        folder = root / "warehouse" / name_of(number)
        folder.mkdir()
        manifest = _MANIFEST.format(name=name_of(number))
        source = "input.txt"
        for step in ("one", "two", "three", "four"):
            manifest += _STEP.format(step=step, source=source)
            source = f"{step}.txt"
        (folder / "flatpack.toml").write_text(manifest)
        (folder / "flatpack.lock").write_text(_LOCK)
        (folder / "input.txt").write_text("an input\n")
        (folder / "README.md").write_text(f"# {name_of(number)}\n")


def build_warehouse(root: Path, count: int, environment: Mapping[str, str]) -> None:
    """Build it all, some hundred flatpacks a process, whose memory is then free again."""
    for first in range(0, count, _BATCH):
        names = [f"build:{name_of(number)}" for number in range(first, min(first + _BATCH, count))]
        command = [sys.executable, "-c", _BUILD, *names]
        subprocess.run(command, cwd=root, env={**environ, **environment}, check=True, stdout=subprocess.DEVNULL)
