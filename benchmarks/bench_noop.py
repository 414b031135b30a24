"""A build of nothing in large warehouses, against plain doit and ninja on a graph of the same shape.

Making and building the warehouse takes minutes (it is kept in ``--folder`` for the next time); the measurements take one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import paired, wall
from benchmarks.warehouse import ACTIONS_PER_TARGET, TARGETS, build_warehouse, make_warehouse, name_of

DOIT = [sys.executable, "-m", "doit"]
IMPORT = [sys.executable, "-c", "import doit.doit_cmd"]

_PLAIN = """\
COUNT, TARGETS, STEPS = {count}, {targets}, {steps}

def touch(path):
    open(path, "w").close()

def task_a():
    for number in range(COUNT):
        for target in range(TARGETS):
            for step in range(STEPS):
                before = f"out/{{number}}-{{target}}-{{step - 1}}" if step else f"in/{{number}}"
                after = f"out/{{number}}-{{target}}-{{step}}"
                name = f"{{number}}-{{target}}-{{step}}"
                yield dict(name=name, file_dep=[before], targets=[after], actions=[(touch, [after])])
"""


def project(folder: Path, count: int) -> tuple[Path, dict[str, str]]:
    """A warehouse of ``count`` flatpacks, built, settled and stamped."""
    root, environment = folder / f"flatpacks-{count}", {"FLATPACK_CACHE": str(folder / "cache")}
    if not (root / "warehouse").exists():
        make_warehouse(root, count)
        wall([sys.executable, "-m", "flatpack_build", "keygen", "--development"], root, environment)
    build_warehouse(root, count, environment)
    wall(["sleep", "0.3"], root, environment)
    wall(DOIT, root, environment)
    return root, environment


def plain_doit(folder: Path, count: int) -> Path:
    root = folder / f"doit-{count}"
    if not root.exists():
        (root / "in").mkdir(parents=True)
        (root / "out").mkdir()
        for number in range(count):
            (root / "in" / str(number)).write_text("an input\n")
        text = _PLAIN.format(count=count, targets=len(TARGETS), steps=ACTIONS_PER_TARGET)
        (root / "dodo.py").write_text(text)
        wall([*DOIT, "run"], root, {})
    return root


def ninja(folder: Path, count: int) -> Path:
    root = folder / f"ninja-{count}"
    if not root.exists():
        (root / "in").mkdir(parents=True)
        lines = ["rule touch", "  command = touch $out"]
        for number in range(count):
            (root / "in" / str(number)).write_text("an input\n")
            for target in range(len(TARGETS)):
                for step in range(ACTIONS_PER_TARGET):
                    before = f"out/{number}-{target}-{step - 1}" if step else f"in/{number}"
                    lines.append(f"build out/{number}-{target}-{step}: touch {before}")
        (root / "build.ninja").write_text("\n".join(lines) + "\n")
        wall(["ninja"], root, {})
    return root


def in_folder(folder: Path, command: list[str]) -> list[str]:
    """``command`` run in another folder than that of the pair, at no cost in time worth naming."""
    return ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]


def report(folder: Path, count: int) -> list[str]:
    small, environment = project(folder, 10)
    large, _ = project(folder, count)
    one = [*DOIT, f"build:{name_of(5)}@pi5"]
    size = f"{count:,} flatpacks x {len(TARGETS)} targets, {count * len(TARGETS) * ACTIONS_PER_TARGET:,} actions"
    lines = [
        f"one target in {count:,} flatpacks against one in 10: {paired(one, in_folder(small, one), large, environment)}",
        f'one target against python -c "import doit.doit_cmd": {paired(one, IMPORT, large, environment)}',
    ]
    plain = plain_doit(folder, count)
    lines.append(
        f"all of {size}, against plain doit: {paired(DOIT, in_folder(plain, DOIT), large, environment, runs=7)}"
    )
    if shutil.which("ninja"):
        other = in_folder(ninja(folder, count), ["ninja"])
        lines.append(f"all of {size}, against ninja: {paired(DOIT, other, large, environment, runs=7)}")
    else:
        lines.append("ninja is not installed (pip install ninja): not compared")
    lines.append(f"peak memory of that no-op: {_time_and_peak(large, environment)[1]:.0f} MB")
    shutil.rmtree(large / "build" / "stamps")
    walk, peak = _time_and_peak(large, environment)
    lines.append(f"the same where every key has to be looked up, once: {walk:.1f} s, {peak:.0f} MB")
    lines.append(_edit(large, environment))
    return lines


def growth(folder: Path, count: int, huge: int) -> list[str]:
    """How the cost of nothing grows with the warehouse."""
    large, environment = project(folder, count)
    larger, _ = project(folder, huge)
    ratio = paired(DOIT, in_folder(large, DOIT), larger, environment, runs=5)
    return [
        f"all of {huge:,} flatpacks against all of {count:,}: {ratio}",
        f"peak memory of that no-op: {_time_and_peak(larger, environment)[1]:.0f} MB",
    ]


def _time_and_peak(folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and MB of one build of everything."""
    start = time.perf_counter()
    with subprocess.Popen(DOIT, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, DOIT)
    return time.perf_counter() - start, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _edit(large: Path, environment: dict[str, str]) -> str:
    """One small edit in the whole warehouse: the no-op and the steps that have to run."""
    readme = large / "warehouse" / name_of(7) / "README.md"
    times, steps = [], []
    for number in range(5):
        readme.write_text(f"# {name_of(7)}, edited {number} {os.getpid()}\n")
        times.append(wall(DOIT, large, environment))
        record = (large / "build/record.jsonl").read_text()
        steps.append(
            sum(
                float(line.partition('"step_seconds": ')[2].partition(",")[0])
                for line in record.splitlines()
                if '"state": "built"' in line
            )
        )
        wall(["sleep", "0.3"], large, environment)
        wall(DOIT, large, environment)
    nothing = sorted(wall(DOIT, large, environment) for _ in range(5))[2]
    edit, step = sorted(times)[2], sorted(steps)[2]
    return (
        f"one small edit: {edit:.2f} s; a no-op {nothing:.2f} s and the steps' own {step:.2f} s: "
        f"({edit:.2f} - {step:.2f}) / {nothing:.2f} = {(edit - step) / nothing:.2f} x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument(
        "--huge", type=int, default=0, help="compare with so many, too (10,000 take 20 minutes to build)"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("\n".join(report(options.folder.resolve(), options.count)))
    if options.huge:
        print("\n".join(growth(options.folder.resolve(), options.count, options.huge)))


if __name__ == "__main__":
    main()
