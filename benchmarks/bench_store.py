"""The store: restoring a large result against copying it, hashing large files against openssl."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.fs import replace_with_link
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.local import LocalStore

SIZE = 1 << 30
RUNS = 5


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def large_file(path: Path, size: int = SIZE) -> Path:
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    os.utime(path, (1, 1))
    return path


def _openssl(*paths: Path) -> None:
    running = [subprocess.Popen(["openssl", "dgst", "-sha256", str(path)], stdout=subprocess.DEVNULL) for path in paths]
    for process in running:
        process.wait()


def _hash(cache: DigestCache, paths: Sequence[Path]) -> None:
    cache.prepare([str(path) for path in paths])
    for path in paths:
        cache.digest(str(path))


def report() -> list[str]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("FLATPACK_BENCH_FOLDER")) as name:
        folder = Path(name)
        files = [large_file(folder / str(number)) for number in range(2)]
        store = LocalStore(folder / "cache")
        blob = store.path(store.add_file(files[0]))
        restore, copy = [], []
        how = ""
        for number in range(RUNS):
            start = time.perf_counter()
            how = replace_with_link(blob, folder / "dist" / str(number))
            restore.append(time.perf_counter() - start)
            copy.append(seconds(lambda: subprocess.run(["cp", blob, folder / "copy"], check=True)))
        (folder / "copy").unlink()
        lines = [
            f"restore of 1 GiB by {how}: {1000 * statistics.median(restore):.1f} ms; "
            f"cp: {1000 * statistics.median(copy):.0f} ms; {statistics.median(restore) / statistics.median(copy):.4f} x"
        ]
        for count, words in ((1, "one file"), (2, "two files at once")):
            paths = files[:count]
            pairs = []
            for number in range(RUNS):
                cache = DigestCache(folder / f"digests-{count}-{number}.json")
                ours = seconds(partial(_hash, cache, paths))
                pairs.append((ours, seconds(partial(_openssl, *paths))))
            speed = statistics.median(theirs / ours for ours, theirs in pairs)
            lines.append(
                f"hashing {words} of 1 GiB: {statistics.median(pair[0] for pair in pairs):.2f} s; openssl dgst -sha256: "
                f"{statistics.median(pair[1] for pair in pairs):.2f} s; {speed:.2f} x its speed"
            )
        assert Digest.of_file(files[0]) == DigestCache(folder / "none").digest(str(files[0]))[0]
    return lines


if __name__ == "__main__":
    print("\n".join(report()))
