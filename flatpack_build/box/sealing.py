"""Make a box out of whatever there is: a folder, a payload, a box that is signed already, a single file.

Knows no settings: key, name and place are handed in.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from flatpack_build import fs
from flatpack_build.box.container import SEPARATOR, SignedBox, sign_payload
from flatpack_build.box.contents import find_payload_manifest
from flatpack_build.box.copying import copy_hashed
from flatpack_build.box.frame import MAGIC, FrameError, frame_end
from flatpack_build.box.keys import PrivateKey
from flatpack_build.box.packing import PayloadEntry, available_workers, write_payload
from flatpack_build.box.paths import path_problem, shown
from flatpack_build.box.payload import MANIFEST_NAME, PayloadManifest
from flatpack_build.box.signature import SignatureHash
from flatpack_build.errors import BoxError, ManifestError, Place
from flatpack_build.manifest.document import read_document

ANY_TARGET = "any"
"""The target of a box that was made of a plain folder, which nobody built for a board."""
LEVEL = 3

_LEFT_OUT_FOLDERS = frozenset({".git", "__pycache__"})
_LEFT_OUT_ENDINGS = (".fpk", ".pyc")

InputKind = Literal["folder", "payload", "box", "file"]


@dataclass(frozen=True)
class Identity:
    """What the payload manifest of a box is going to say it is."""

    flatpack: str
    version: str
    target: str

    @property
    def file_name(self) -> str:
        """What its box is called. Raises ``BoxError`` where that is no name of one file: whoever made the folder or the
        payload chose it."""
        name = f"{self.flatpack}-{self.version}-{self.target}.fpk"
        if problem := path_problem(name) or ("leads to another folder" if "/" in name else ""):
            raise BoxError(f"the box would be called {shown(name)}, which {problem}", hint="name it with -o")
        return name


def kind_of_input(path: Path) -> tuple[InputKind, int]:
    """What ``path`` is, and how many of its bytes are a payload (0: none). Raises ``BoxError``."""
    if path.is_dir():
        return "folder", 0
    try:
        with open(path, "rb") as file:
            fd = file.fileno()
            size = os.fstat(fd).st_size
            if os.pread(fd, len(MAGIC), 0) != MAGIC:
                return "file", 0
            try:
                end = frame_end(fd, size)
            except FrameError as error:
                raise BoxError(f"this is no whole payload: {error}", place=Place(str(path))) from None
            if end == size:
                return "payload", size
            if os.pread(fd, len(SEPARATOR), end) == SEPARATOR:
                return "box", end
            return "file", 0
    except OSError as error:
        raise BoxError(f"it cannot be read: {error.strerror}", place=Place(str(path))) from error


def identity_of_folder(folder: Path) -> Identity:
    """Who a folder is: as its ``payload.json`` says if it was unpacked from a box, else as its ``flatpack.toml`` says,
    else by its name. Raises ``BoxError``."""
    kept = folder / MANIFEST_NAME
    if kept.is_file():
        manifest = PayloadManifest.decode(kept.read_bytes())
        return Identity(manifest.flatpack, manifest.version, manifest.target)
    name, version = Path(os.path.abspath(folder)).name, "0.0.0"
    file = folder / "flatpack.toml"
    if file.is_file():
        try:
            data = read_document(file).data
        except ManifestError as error:
            raise BoxError(error.message, place=error.place, hint=error.hint) from error
        environment = data.get("environment")
        named = environment.get("model_name") if isinstance(environment, dict) else None
        name = named if isinstance(named, str) else name
        version = data["version"] if isinstance(data.get("version"), str) else version
    return Identity(name, version, ANY_TARGET)


def identity_of_box(box: Path) -> Identity | None:
    """What a box or a payload says it is; ``None`` for those of the original. Raises ``BoxError``."""
    manifest = find_payload_manifest(box)
    return Identity(manifest.flatpack, manifest.version, manifest.target) if manifest else None


def seal_folder(folder: Path, box: Path, key: PrivateKey, hash: SignatureHash, identity: Identity) -> SignedBox:
    """Pack what is in ``folder`` (boxes, ``.git`` and Python's caches left out) and sign it.

    Raises ``BoxError``, also for links and other things that may not stand in a box.
    """
    with _payload_beside(box) as (path, file):
        write_payload(
            folder_entries(folder),
            file,
            flatpack=identity.flatpack,
            version=identity.version,
            target=identity.target,
            level=LEVEL,
        )
        file.flush()
        return sign_payload(path, box, key, hash, move=True)


def seal_file(source: Path, box: Path, key: PrivateKey, hash: SignatureHash) -> SignedBox:
    """Compress a single file without an archive or a manifest, as the original does, and sign it. Raises ``BoxError``."""
    import zstandard  # heavy

    compressor = zstandard.ZstdCompressor(level=LEVEL, threads=available_workers(), write_checksum=True)
    with _payload_beside(box) as (path, file), open(source, "rb") as reading:
        compressor.copy_stream(reading, file, size=os.fstat(reading.fileno()).st_size)
        file.flush()
        return sign_payload(path, box, key, hash, move=True)


def copy_payload(box: Path, payload: Path) -> None:
    """Write the payload of ``box`` without its signature. Raises ``BoxError``."""
    _, size = kind_of_input(box)
    with _payload_beside(payload) as (path, file), open(box, "rb") as reading:
        copy_hashed(reading.fileno(), file.fileno(), hashlib.sha256(), SEPARATOR, size=size)
        path.chmod(0o644)
        os.replace(path, payload)


def folder_entries(folder: Path) -> list[PayloadEntry]:
    """What of a folder goes into its box, with paths relative to it. Raises ``BoxError``."""
    entries = []
    for path, entry in fs.walk_files(folder):
        names = path.rstrip("/").split("/")
        if path == MANIFEST_NAME or _LEFT_OUT_FOLDERS.intersection(names) or path.endswith(_LEFT_OUT_ENDINGS):
            continue
        if path.endswith("/"):
            entries.append(PayloadEntry(path.rstrip("/"), None))
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise BoxError(
                f"{path!r} is not a plain file; a box holds files and folders only",
                place=Place(str(folder)),
                hint="put a copy where the link is" if stat.S_ISLNK(mode) else "leave it out",
            )
        entries.append(PayloadEntry(path, Path(entry.path), bool(mode & 0o111)))
    return entries


@contextlib.contextmanager
def _payload_beside(box: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A temporary file on the file system of ``box``, so that it can become the box without being copied."""
    name = None
    try:
        box.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{box.name}.", suffix=".payload.tmp", dir=box.parent)
        with open(fd, "w+b") as file:
            yield Path(name), file
    except OSError as error:
        raise BoxError(f"the box cannot be made: {error.strerror}", place=Place(error.filename or str(box))) from error
    finally:
        if name is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
