"""What the fuzzer feeds: one input, which by its first byte is a box, a payload, an archive, a manifest, a frame or a model.

Each must be read or refused with ``BoxError``, and leave a whole folder or nothing. Behind a signature no fuzzer would ever
get: payloads are signed here before they are read, and archives are unpacked as if somebody had.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

from flatpack_build import fs, gguf
from flatpack_build.box import contents, tar
from flatpack_build.box.checked import verify_contents
from flatpack_build.box.container import sign_payload
from flatpack_build.box.description import describe_open_box
from flatpack_build.box.documents import summarise_provenance, summarise_sbom
from flatpack_build.box.extract import FolderSink, extract_verified
from flatpack_build.box.frame import FrameError, frame_end
from flatpack_build.box.keys import generate_key, load_private_key, load_public_key
from flatpack_build.box.landing import landing
from flatpack_build.box.limits import Limits
from flatpack_build.box.passphrase import Passphrase
from flatpack_build.box.payload import MANIFEST_NAME, PayloadFile, PayloadManifest
from flatpack_build.box.provenance import PROVENANCE_NAME
from flatpack_build.box.sbom import SBOM_NAME
from flatpack_build.digest import Digest
from flatpack_build.errors import BoxError, VerificationError

LIMITS = Limits(entries=200, file_size=1_000_000, total_size=4_000_000, ratio_floor=1_000_000, window=8 * 2**20)
LONGEST_FRAME = 512
"""Bytes: all that is compared with zstd, which takes up to 128 KiB of memory for each four of them."""


class Reader:
    """Takes inputs one by one. ``folder`` is its own; nothing is in it between two inputs but the last box."""

    def __init__(self, folder: Path) -> None:
        key = generate_key(folder / "key.pem", passphrase=None, development=True, bits=2048)
        self._private, self._public = load_private_key(key.private, Passphrase()), load_public_key(key.public)
        self._work = folder / "work"
        self._work.mkdir()
        self._box = self._work / "a.fpk"
        self._payload = self._work / "payload"
        self._target = self._work / "out" / "target"
        self.unpacked = 0
        """How many inputs were good enough to be unpacked."""
        self._kinds: dict[bytes, Callable[[bytes], None]] = {
            b"b": self.box,
            b"s": self.payload,
            b"l": self.listed,
            b"u": self.unlisted,
            b"c": self.consistent,
            b"m": self.manifest,
            b"i": self.inspected,
            b"f": self.frame,
            b"g": self.model,
        }

    def take(self, data: bytes) -> None:
        """Returns where all is well; what it raises is a finding."""
        kind = self._kinds.get(data[:1]) or list(self._kinds.values())[sum(data[:1]) % len(self._kinds)]
        kind(data[1:])

    def box(self, data: bytes) -> None:
        """A file that may say that it is a box: looked into, verified, and unpacked if its signature holds."""
        self._box.write_bytes(data)
        with contextlib.suppress(BoxError):
            contents.find_payload_manifest(self._box)
        with contextlib.suppress(BoxError):
            list(contents.list_entries(self._box, LIMITS))
        self._describe()
        with contextlib.suppress(BoxError):
            verify_contents(self._box, [self._public])
        with self._whole_or_nothing():
            extract_verified(self._box, self._target, [self._public], limits=LIMITS, allow_unlisted=True, durable=False)

    def payload(self, data: bytes) -> None:
        """A payload that a trusted key has signed, whatever it is."""
        self._payload.write_bytes(data)
        with contextlib.suppress(BoxError):
            sign_payload(self._payload, self._box, self._private, durable=False)
            self.box(self._box.read_bytes())

    def listed(self, data: bytes) -> None:
        """An archive, to be compared with the manifest in it."""
        with self._whole_or_nothing(), landing(self._target, durable=False) as top, FolderSink(top) as sink:
            manifest = contents.check_contents(_compressed(data), sink=sink, limits=LIMITS)
            found = {path.relative_to(top).as_posix() for path in top.rglob("*") if not path.is_dir()}
            assert found == {file.path for file in manifest.files}

    def unlisted(self, data: bytes) -> None:
        """An archive as the original Flatpack makes it."""
        with self._whole_or_nothing(), landing(self._target, durable=False) as top, FolderSink(top) as sink:
            contents.read_unlisted(_compressed(data), "name", sink, limits=LIMITS)

    def consistent(self, data: bytes) -> None:
        """Paths between line feeds, in an archive that is just as its manifest says. What may be packed is unpacked."""
        lines = {Digest.of_bytes(line): line for line in data[:2000].split(b"\n")}
        files, folders = [], []
        for digest, line in lines.items():
            path = line[1:].decode(errors="replace")
            if line[:1] == b"/":
                folders.append(path)
            else:
                files.append(PayloadFile(path, 0o755 if line[:1] == b"*" else 0o644, len(line), digest))
        files.sort(key=lambda file: file.path)
        manifest = PayloadManifest("chat", "1", "t", tuple(files), tuple(sorted(folders)))
        archive = tar.encode_header("chat", "folder", 0o755, 0) + _entry(f"chat/{MANIFEST_NAME}", manifest.encode())
        for item in manifest.order():
            if isinstance(item, str):
                archive += tar.encode_header(f"chat/{item}", "folder", 0o755, 0)
            else:
                archive += _entry(f"chat/{item.path}", lines[item.sha256], item.mode)
        before = self.unpacked
        self.listed(archive + bytes(1024))
        try:
            manifest.check()
        except BoxError:
            assert self.unpacked == before
        else:
            assert self.unpacked == before + 1

    def manifest(self, data: bytes) -> None:
        with contextlib.suppress(BoxError):
            assert PayloadManifest.decode(data).encode() == data

    def frame(self, data: bytes) -> None:
        """Where a frame ends: zstd is the judge of whether we are right."""
        data = data[:LONGEST_FRAME]
        self._box.write_bytes(data)
        with open(self._box, "rb") as file:
            try:
                end = frame_end(file.fileno(), len(data))
            except FrameError:
                end = -1
        decompressor = zstandard.ZstdDecompressor(max_window_size=LIMITS.window).decompressobj()
        with contextlib.suppress(zstandard.ZstdError):
            decompressor.decompress(data)
            if decompressor.eof and data[:4] == b"\x28\xb5\x2f\xfd":
                assert end == len(data) - len(decompressor.unused_data)

    def inspected(self, data: bytes) -> None:
        """An archive that ``flatpack inspect`` describes, though nobody has verified it."""
        self._box.write_bytes(_compressed(data).read())
        self._describe()

    def _describe(self) -> None:
        with contextlib.suppress(BoxError), open(self._box, "rb") as file:
            found = describe_open_box(file)
            summarise_provenance(found.documents.get(PROVENANCE_NAME, b""))
            summarise_sbom(found.documents.get(SBOM_NAME, b""))

    def model(self, data: bytes) -> None:
        """The header of a model, which is read there, too."""
        with contextlib.suppress(VerificationError):
            gguf.read_stream(_Bytes(data), len(data), "model.gguf").facts()

    @contextlib.contextmanager
    def _whole_or_nothing(self) -> Iterator[None]:
        with contextlib.suppress(BoxError):
            yield
            self.unpacked += 1
            _check(self._target)
            fs.remove_tree(self._target.parent)
        left = sorted(os.listdir(self._work))
        assert set(left) <= {"a.fpk", "payload"}, left


def _check(target: Path) -> None:
    """Plain files and folders with plain modes, and nothing beside them."""
    assert os.listdir(target.parent) == [target.name]
    for path in target.rglob("*"):
        status = path.lstat()
        assert stat.S_IMODE(status.st_mode) in (0o644, 0o755), path
        assert stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1), path


def _entry(path: str, content: bytes, mode: int = 0o644) -> bytes:
    return tar.encode_header(path, "file", mode, len(content)) + content + tar.padding(len(content))


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._left = data

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._left) if size < 0 else size
        data, self._left = self._left[:end], self._left[end:]
        return data


def _compressed(data: bytes) -> _Bytes:
    return _Bytes(zstandard.ZstdCompressor(level=1).compress(_with_checksums(data)))


def _with_checksums(data: bytes) -> bytes:
    """``data`` with the checksum of each header put right: a fuzzer finds no sums, and would get no further. A header
    whose checksum begins with ``!`` keeps it."""
    done = bytearray(data)
    at = 0
    while at + tar.BLOCK <= len(done):
        block = bytes(done[at : at + tar.BLOCK])
        if block.strip(b"\0") and block[148:149] != b"!":
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            done[at + 148 : at + 156] = b"%06o\0 " % total
            with contextlib.suppress(ValueError):
                at += -(-int(block[124:136].strip(b" \0") or b"0", 8) // tar.BLOCK) * tar.BLOCK
        at += tar.BLOCK
    return bytes(done)
