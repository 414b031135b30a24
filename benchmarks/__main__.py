"""``python -m benchmarks``: every benchmark, one after the other; about two minutes."""

from __future__ import annotations

from benchmarks import bench_build

for line in bench_build.report():
    print(line)
