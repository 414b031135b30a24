"""The fuzzer itself: ``make fuzz``. Arguments are those of libFuzzer. Needs atheris, which only Linux has wheels of."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["flatpack_build"]):
    from tests.fuzz.reader import Reader


def main() -> None:
    # In memory where there is such a place: each input writes files.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        reader = Reader(Path(folder))
        atheris.Setup([sys.argv[0], "-max_len=8192", "-timeout=10", "-rss_limit_mb=1024", *sys.argv[1:]], reader.take)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
