"""Makes warehouses of any size out of tiny flatpacks: N of them, 3 targets each, 7 actions a target. Knows no timing."""

from __future__ import annotations

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
