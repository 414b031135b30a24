"""Ask pip for wheels, with pip's own configuration, and say in one sentence why it could not. Knows no registry."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flatpack_build import events
from flatpack_build.errors import FlatpackError, SourceError, VerificationError

_NETWORK = (
    "Retrying (Retry", "NewConnectionError", "Failed to establish a new connection", "Max retries exceeded",
    "Temporary failure in name resolution", "Name or service not known", "ReadTimeoutError", "ConnectTimeoutError",
)  # fmt: skip
_SHOWN_VERSIONS = 6
# What says more about an installation than about where things come from; a pinned release needs no constraint.
_IGNORED = ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "PIP_REQUIREMENT", "PIP_NO_BINARY", "PIP_ONLY_BINARY")


def download(what: str, requirements: Sequence[str], folder: Path, options: Sequence[str] = ()) -> list[Path]:
    """Download the wheels of ``requirements`` (lines of a requirements file), without what they depend on.

    ``what`` names the source in errors. With a ``--hash`` in the lines pip takes only these very files. Gives the
    wheels in ``folder``, sorted. Raises ``SourceError``, ``VerificationError``.
    """
    folder.mkdir(parents=True)
    listing = folder.parent / f"{folder.name}.txt"
    listing.write_text("".join(line + "\n" for line in requirements))
    hashed = any("--hash=" in line for line in requirements)
    # -P: a file pip.py in the folder one happens to be in is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
               "--disable-pip-version-check", "--no-input", "--no-color", "--progress-bar", "raw",
               *(["--require-hashes"] if hashed else []), *options,
               "-r", str(listing), "-d", str(folder)]  # fmt: skip
    code, output = _run(command)
    if code:
        raise _explain(what, output)
    return sorted(path for path in folder.iterdir() if path.suffix == ".whl")


def _run(command: Sequence[str]) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _IGNORED}
    environment |= {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment,
            text=True, encoding="utf-8", errors="replace",
        ) as process:  # fmt: skip
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if match := re.fullmatch(r"Progress (\d+) of (\d+)", line.strip()):
                        done, total = int(match[1]), int(match[2])
                        events.progress(done, total or None)
            except BaseException:
                process.kill()
                raise
        errors.seek(0)
        return process.returncode, errors.read().decode(errors="replace")


def _explain(what: str, output: str) -> FlatpackError:
    """pip's own words condensed to the one thing that matters."""
    if "No module named pip" in output:
        return SourceError(f"{what}: this Python has no pip", hint=f"run: {sys.executable} -m ensurepip")
    if "DO NOT MATCH THE HASHES" in output or "do not match the hashes" in output:
        expected = re.findall(r"Expected sha256 ([0-9a-f]{64})", output)
        got = re.findall(r"Got\s+([0-9a-f]{64})", output)
        digests = f"\n  expected sha256 {expected[0]}\n  got      sha256 {got[0]}" if expected and got else ""
        hint = "the index serves another file under this version; if that is right, run: flatpack lock <name>"
        return VerificationError(f"{what}: the wheel is not what was locked{digests}", hint=hint)
    if any(sign in output for sign in _NETWORK):
        return SourceError(
            f"{what}: the package index cannot be reached", hint="check the network and `pip config list`"
        )
    if "CERTIFICATE_VERIFY_FAILED" in output or "SSLError" in output:
        hint = "set pip's option `cert`, or check the clock"
        return SourceError(f"{what}: no secure connection to the package index", hint=hint)
    if "not enough bytes were received" in output:  # what pip says when it cannot write, too
        return SourceError(
            f"{what}: the download ended early", hint="check the network, and the free space, and build again"
        )
    if "No space left on device" in output:
        return SourceError(f"{what}: the disk is full", hint="free some space and build again")
    if match := re.search(r"satisfies the requirement (\S+?)(?: \(from .*?)? \(from versions: (.*?)\)", output):
        versions = [] if match[2] == "none" else match[2].split(", ")
        if not versions:
            return SourceError(
                f"{what}: no release of it can be had as a wheel",
                hint="check the name; one that is only there as source code, or for other platforms, cannot be used",
            )
        shown = ", ".join(versions[-_SHOWN_VERSIONS:])
        return SourceError(
            f"{what}: there is no such version as a wheel ({match[1]})",
            hint=f"there are {'… ' if len(versions) > _SHOWN_VERSIONS else ''}{shown}",
        )
    lines = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    last = (output.strip() or "no reason").splitlines()[-1]  # where pip itself failed, that of its traceback
    reason = re.sub(r"//[^/\s]*@", "//***@", lines[-1] if lines and lines[-1] != "Exception:" else last)
    return SourceError(f"{what}: pip could not get it: {reason}", hint="does `pip download` of it work by hand?")
