"""``payload.json``: what is in a box, file by file. Knows how it is spelt and what may stand in it; no archive."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from flatpack_build.box.paths import find_conflict, path_problem, shown
from flatpack_build.digest import Digest, canonical_json
from flatpack_build.errors import BoxError

FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "payload.json"
MAX_MANIFEST: Final = 8 * 1024 * 1024
"""Bytes of ``payload.json``: some 50,000 files. Reading it takes ten times as much memory, which a small board has."""
FILE_MODE: Final = 0o644
EXECUTABLE_MODE: Final = 0o755
_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """One file: ``path`` below the flatpack's folder, ``mode`` 0o644 or 0o755, ``size`` in bytes."""

    path: str
    mode: int
    size: int
    sha256: Digest


@dataclass(frozen=True)
class PayloadManifest:
    """What a box holds. ``files`` and ``folders`` (the empty ones only) are sorted by path; ``payload.json``, which
    is this, is not among them."""

    flatpack: str
    version: str
    target: str
    files: tuple[PayloadFile, ...]
    folders: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        return canonical_json(
            {
                "format_version": self.format_version,
                "flatpack": self.flatpack,
                "version": self.version,
                "target": self.target,
                "files": [
                    {"path": file.path, "mode": f"{file.mode:04o}", "size": file.size, "sha256": file.sha256}
                    for file in self.files
                ],
                "folders": list(self.folders),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> PayloadManifest:
        """Read ``payload.json``. There is one spelling of each manifest; anything else raises ``BoxError``."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise BoxError(f"the box's {MANIFEST_NAME} is not JSON") from None
        if not isinstance(value, dict) or not isinstance(value.get("format_version"), int):
            raise BoxError(f"the box's {MANIFEST_NAME} is no payload manifest")
        if value["format_version"] != FORMAT_VERSION:
            raise BoxError(
                f"the box has format version {value['format_version']}, this program reads version {FORMAT_VERSION}",
                hint="update flatpack-build on this machine",
            )
        try:
            manifest = cls(
                value["flatpack"],
                value["version"],
                value["target"],
                tuple(
                    PayloadFile(file["path"], int(file["mode"], 8), file["size"], Digest.parse(file["sha256"]))
                    for file in value["files"]
                ),
                tuple(value["folders"]),
            )
            same = manifest.encode() == data
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BoxError(f"the box's {MANIFEST_NAME} is no payload manifest: {error}") from None
        if not same:
            raise BoxError(f"the box's {MANIFEST_NAME} is not written in its canonical form")
        manifest.check()
        return manifest

    def check(self) -> None:
        """Raise ``BoxError`` where a path, mode, size or name may not stand in a box."""
        if not all(isinstance(text, str) for text in (self.flatpack, self.version, self.target)):
            raise BoxError("the payload manifest's flatpack, version and target must be texts")
        if not (self.version + self.target).isprintable():  # they are shown in terminals
            raise BoxError("the payload manifest's version or target has a character in it that cannot be printed")
        if not _NAME.fullmatch(self.flatpack):
            raise BoxError(
                f"a box cannot be named {shown(self.flatpack)}", hint="letters, digits, '_' and '-' may be used"
            )
        paths = [file.path for file in self.files]
        for path in (*paths, *self.folders):
            if not isinstance(path, str):
                raise BoxError("a path in the payload manifest is no text")
            if problem := path_problem(path):
                raise BoxError(f"the path {shown(path)} {problem}")
        for file in self.files:
            if file.mode not in (FILE_MODE, EXECUTABLE_MODE):
                raise BoxError(f"{file.path!r} has mode {file.mode:04o}; a box holds 0644 and 0755 only")
            if type(file.size) is not int or file.size < 0:
                raise BoxError(f"{file.path!r} has no valid size")
        if conflict := find_conflict((MANIFEST_NAME, *paths), self.folders):
            raise BoxError(str(conflict))
        if paths != sorted(paths) or self.folders != tuple(sorted(set(self.folders))):
            raise BoxError("the payload manifest is not sorted")

    @cached_property
    def digest(self) -> Digest:
        """Names the content of the payload, however it is compressed."""
        return Digest.of_bytes(self.encode())

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return sum(file.size for file in self.files)

    def order(self) -> list[PayloadFile | str]:
        """Files, and the paths of empty folders, in the order in which they stand in the archive."""
        items: list[PayloadFile | str] = [*self.files, *self.folders]
        return sorted(items, key=lambda item: item if isinstance(item, str) else item.path)


def require_short(size: int) -> None:
    """Raise ``BoxError`` for a ``payload.json`` of ``size`` bytes that no reader would take."""
    if size > MAX_MANIFEST:
        raise BoxError(
            f"there are too many files for a box: their list has {size:,} bytes, and may have {MAX_MANIFEST:,}",
            hint="that is some 50,000 files; put many small ones into one archive",
        )
