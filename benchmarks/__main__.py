"""``python -m benchmarks``: every benchmark, one after the other. The first time takes some minutes: it builds a warehouse."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import bench_box, bench_build, bench_noop, bench_store


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="where warehouses are kept")
    folder: Path = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for title, lines in (
        ("One flatpack with a real model", bench_build.report),
        ("A large warehouse with nothing to do", lambda: bench_noop.report(folder, 1000)),
        ("The store", bench_store.report),
        ("Boxes", bench_box.report),
    ):
        print(f"\n{title}")
        for line in lines():
            print(f"  {line}")


if __name__ == "__main__":
    main()
