"""Files of the user's own."""

from __future__ import annotations

import stat
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError
from flatpack_build.fetching.stream import Fetched, Meter, copy_stream, mismatch
from flatpack_build.manifest.source import FileSource
from flatpack_build.params import FetchParams


def _copy(path: Path, destination: Path, source: str) -> tuple[Digest, int]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise SourceError(f"{source}: {path} is {kind}", hint="name one file")
        with open(path, "rb") as file:
            # The copy is what is hashed: a file that is written to meanwhile cannot pass for what it was before.
            return copy_stream(file, destination, Meter(status.st_size))
    except FileNotFoundError as error:
        hint = "the path is relative to the flatpack's folder; check its spelling"
        raise SourceError(f"{source}: there is no file {path}", hint=hint) from error
    except OSError as error:
        raise SourceError(f"{source}: {path} cannot be read: {error.strerror or error}") from error


def resolve(source: FileSource, base: Path, out: Path) -> Fetched:
    """Copy the file below ``out`` and say what it is. Raises ``SourceError``."""
    digest, size = _copy(base / source.path, out / source.name, str(source))
    return Fetched({source.name: digest}, {}, size)


def fetch(params: FetchParams, file: Path, out: Path) -> None:
    """Copy ``file`` if it still is what was locked. Raises ``SourceError``, ``VerificationError``."""
    ((name, expected),) = params.files.items()
    digest, _ = _copy(file, out / name, params.source)
    if digest != expected:
        raise mismatch(
            params.source, name, expected, digest,
            hint="the file was changed since flatpack.lock was made; if that is right, run: flatpack lock <name>",
        )  # fmt: skip
