"""``python -m benchmarks``: every benchmark, one after the other. The first time takes some minutes: it builds a warehouse."""

from __future__ import annotations

from pathlib import Path

from benchmarks import bench_build, bench_noop, bench_store

FOLDER = Path("build/bench")

FOLDER.mkdir(parents=True, exist_ok=True)
for title, lines in (
    ("One flatpack with a real model", bench_build.report),
    ("A large warehouse with nothing to do", lambda: bench_noop.report(FOLDER.resolve(), 1000)),
    ("The store", bench_store.report),
):
    print(f"\n{title}")
    for line in lines():
        print(f"  {line}")
