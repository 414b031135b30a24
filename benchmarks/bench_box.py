"""Boxes: verifying and signing against openssl, packing against tar and zstd; peak memory of each command.

``python -m benchmarks.bench_box [MiB]``. All are whole commands, started anew, over files that are in the page cache.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.digest import Digest

SIZE = 1024
"""MiB of weights and text together."""
RUNS = 5
LEVEL = 3

# This process stays small: the peak of a child counts what its parent had when it was started.
_PACK = """
import json, sys
from pathlib import Path
from flatpack_build.box.packing import PayloadEntry, write_payload
folder, out, digests = map(Path, sys.argv[1:4])
known = json.loads(digests.read_text())
entries = [PayloadEntry(path.name, path, sha256=known.get(path.name)) for path in sorted(folder.iterdir())]
with open(out, "wb") as file:
    write_payload(entries, file, flatpack="bench", version="1", target="any", level=int(sys.argv[4]))
"""
_SIGN = """
import sys
from pathlib import Path
from flatpack_build.box.container import sign_payload
from flatpack_build.box.keys import load_private_key
from flatpack_build.box.passphrase import Passphrase
payload, box, key = map(Path, sys.argv[1:4])
sign_payload(payload, box, load_private_key(key, Passphrase()), durable=False, move=sys.argv[4] == "move")
"""
_PSS = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max")


@dataclass(frozen=True)
class Run:
    """Seconds of wall time, and bytes of memory at its highest."""

    seconds: float
    peak: int


def run(command: Sequence[str | Path], folder: Path) -> Run:
    """Raises ``CalledProcessError`` when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(map(str, command)))
    return Run(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def compare(
    title: str,
    ours: Sequence[str | Path],
    other: Sequence[str | Path],
    folder: Path,
    *,
    prepare: Callable[[], object] = lambda: None,
    runs: int = RUNS,
) -> str:
    """Both in turn after one warm-up each; ``prepare`` is called before each of ours and not measured."""
    pairs = []
    for _ in range(runs + 1):
        prepare()
        mine = run(ours, folder)
        pairs.append((mine, run(other, folder)))
    del pairs[0]
    mine_s = statistics.median(mine.seconds for mine, _ in pairs)
    other_s = statistics.median(theirs.seconds for _, theirs in pairs)
    ratio = statistics.median(mine.seconds / theirs.seconds for mine, theirs in pairs)
    peak = max(mine.peak for mine, _ in pairs)
    return f"{title}: {mine_s:.2f} s against {other_s:.2f} s: {ratio:.2f} x; peak {peak / 1e6:.0f} MB"


def make_content(folder: Path, mebibytes: int) -> None:
    """Nine parts of weights, which do not compress, to one of text, which does."""
    folder.mkdir()
    with open(folder / "weights.bin", "wb") as file:
        for _ in range(mebibytes * 9 // 10):
            file.write(os.urandom(1 << 20))
    words = [f"word{number}"[: 3 + number % 7] for number in range(5000)]
    choose = random.Random(1)
    with open(folder / "text.txt", "w") as text:
        written = 0
        while written < (mebibytes << 20) // 10:
            written += text.write(" ".join(choose.choices(words, k=1000)) + "\n")


def report(mebibytes: int = SIZE) -> list[str]:
    """Takes 4 x ``mebibytes`` of disk below ``FLATPACK_BENCH_FOLDER``, or the temporary folder."""
    python: list[str | Path] = [sys.executable]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("FLATPACK_BENCH_FOLDER")) as name:
        folder = Path(name)
        make_content(folder / "content", mebibytes)
        run([*python, "-m", "flatpack_build", "keygen", "key.pem", "--development"], folder)
        tar = f"tar -C content -c . | zstd -q -f -T0 -{LEVEL} -o other.tar.zst"

        def remove(*names: str) -> Callable[[], None]:
            """New files for each: what replaces another file may have to reach the disk first."""

            def gone() -> None:
                for name in names:
                    (folder / name).unlink(missing_ok=True)

            return gone

        known = {path.name: Digest.of_file(path) for path in (folder / "content").iterdir()}
        (folder / "known.json").write_text(json.dumps(known))
        (folder / "none.json").write_text("{}")
        pack: list[str | Path] = [*python, "-c", _PACK, "content", "payload"]
        lines = [
            compare(
                f"pack {mebibytes} MiB as a build does, tar | zstd -T0 -{LEVEL}",
                [*pack, "known.json", str(LEVEL)],
                ["sh", "-c", tar],
                folder,
                prepare=remove("payload", "other.tar.zst"),
            ),
            compare(
                f"pack {mebibytes} MiB of which nothing is known, tar | zstd -T0 -{LEVEL}",
                [*pack, "none.json", str(LEVEL)],
                ["sh", "-c", tar],
                folder,
                prepare=remove("payload", "other.tar.zst"),
            ),
        ]
        (folder / "other.tar.zst").unlink()
        shutil.rmtree(folder / "content")
        sign: list[str | Path] = ["openssl", "dgst", "-sha256", "-sign", "key.pem", *_PSS, "-out", "sig", "payload"]
        ours = [*python, "-c", _SIGN]

        def give_away() -> None:
            (folder / "a.fpk").unlink(missing_ok=True)
            shutil.copyfile(folder / "payload", folder / "given")

        lines.append(
            compare(
                "sign a payload that becomes the box, openssl dgst -sign",
                [*ours, "given", "a.fpk", "key.pem", "move"],
                sign,
                folder,
                prepare=give_away,
            )
        )
        copying = [*ours, "payload", "a.fpk", "key.pem", "copy"]
        lines.append(
            compare("sign a copy of a payload, openssl dgst -sign", copying, sign, folder, prepare=remove("a.fpk"))
        )
        made = f"openssl dgst -sha256 -sign key.pem {' '.join(_PSS)} -out sig payload && cat payload sig sig > other"
        lines.append(
            compare(
                "sign a copy of a payload, openssl and cat",
                copying,
                ["sh", "-c", made],
                folder,
                prepare=remove("a.fpk", "other"),
            )
        )
        (folder / "other").unlink()
        lines.append(
            compare(
                "verify, openssl dgst -verify",
                [*python, "-m", "flatpack_build", "verify", "a.fpk", "--key", "key.pub.pem"],
                ["openssl", "dgst", "-sha256", "-verify", "key.pub.pem", *_PSS, "-signature", "sig", "payload"],
                folder,
            )
        )
    return lines


if __name__ == "__main__":
    print("\n".join(report(*map(int, sys.argv[1:]))))
