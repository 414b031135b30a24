"""What the build system itself costs, on the real model: a cold build against its steps' own times, and a build of nothing.

The model is fetched before anything is timed. The cold build is measured with one action at a time, so that its wall
time and the sum of its steps' times are comparable.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import paired, wall

REPOSITORY = Path(__file__).resolve().parents[1]
NAME = "smollm2-chat"
PYTHON = [sys.executable, "-m"]
COLD_RUNS = 3


def report() -> list[str]:
    """The figures, a line each."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root, cache = Path(folder) / "project", Path(folder) / "cache"
        environment = {"FLATPACK_CACHE": str(cache)}
        root.mkdir()
        (root / "pyproject.toml").write_text('[tool.doit]\nloader = "flatpack"\n\n[tool.flatpack-build]\n')
        shutil.copytree(REPOSITORY / "warehouse" / NAME, root / "warehouse" / NAME)
        wall([*PYTHON, "flatpack_build", "keygen", "--development"], root, environment)
        wall([*PYTHON, "doit", f"build:{NAME}"], root, environment)
        lines = [_cold(root, cache, environment)]
        nothing = paired(
            [*PYTHON, "doit", f"build:{NAME}"], [sys.executable, "-c", "import doit.doit_cmd"], root, environment
        )
        lines.append(f'no-op doit build:{NAME} against python -c "import doit.doit_cmd": {nothing}')
    return lines


def _cold(root: Path, cache: Path, environment: dict[str, str]) -> str:
    fetched = [
        path for path in (cache / "actions").rglob("*") if path.is_file() and b'"step":"fetch"' in path.read_bytes()
    ]
    shares = []
    for _ in range(COLD_RUNS):
        shutil.rmtree(root / "build")
        shutil.rmtree(root / "dist")
        for entry in (cache / "actions").rglob("*"):
            if entry.is_file() and entry not in fetched:
                entry.unlink()
        seconds = wall([*PYTHON, "doit", "run", "-n", "1", f"build:{NAME}"], root, environment)
        record = [json.loads(line) for line in (root / "build/record.jsonl").read_text().splitlines()]
        steps = sum(line["step_seconds"] for line in record if line["state"] == "built")
        shares.append((seconds, steps, seconds / steps))
    seconds, steps, ratio = (statistics.median(share[index] for share in shares) for index in range(3))
    return (
        f"cold build of {NAME} (all but fetch, one action at a time) against the sum of its steps' own times: "
        f"{seconds:.2f} s against {steps:.2f} s: {ratio:.2f} x (medians of {COLD_RUNS})"
    )


if __name__ == "__main__":
    print("\n".join(report()))
