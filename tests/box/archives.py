"""Archives made by hand, header by header, also such as no program writes. No product code decides what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import zstandard

from flatpack_build.box import tar
from flatpack_build.box.container import SEPARATOR
from flatpack_build.box.keys import PrivateKey
from flatpack_build.box.payload import PayloadFile, PayloadManifest
from flatpack_build.box.signature import SignatureHash, sign_digest
from flatpack_build.digest import Digest

Item = tuple[bytes, bytes]
"""Header and content of an entry."""


def file(path: str, content: bytes = b"", mode: int = 0o644) -> Item:
    return tar.encode_header(path, "file", mode, len(content)), content


def folder(path: str, mode: int = 0o755) -> Item:
    return tar.encode_header(path, "folder", mode, 0), b""


def with_checksum(block: bytes) -> bytes:
    total = sum(block[:148]) + 8 * 32 + sum(block[156:512])
    return block[:148] + b"%06o\0 " % total + block[156:]


def retyped(item: Item, kind: bytes, target: bytes = b"") -> Item:
    """The same entry as another kind of thing, such as a link to ``target``."""
    header, content = item
    return with_checksum(header[:156] + kind + target.ljust(100, b"\0") + header[257:]), content


def extended(path: bytes, item: Item) -> Item:
    """``item`` with a PAX header in front that gives it any ``path``, valid or not."""
    record = b" path=" + path + b"\n"
    length = len(record)
    while len(str(length)) + len(record) != length:
        length = len(str(length)) + len(record)
    data = str(length).encode() + record
    extension = retyped(file("pax", data), b"x")[0]
    return extension + data + tar.padding(len(data)) + item[0], item[1]


def manifest(files: Sequence[PayloadFile], folders: tuple[str, ...] = ("empty",)) -> bytes:
    return PayloadManifest("chat", "1", "t", tuple(files), folders).encode()


A = PayloadFile("a", 0o644, 1, Digest.of_bytes(b"a"))
B = PayloadFile("sub/b.sh", 0o755, 2, Digest.of_bytes(b"bb"))
GOOD: tuple[Item, ...] = (
    folder("chat"),
    file("chat/payload.json", manifest([A, B])),
    file("chat/a", b"a"),
    folder("chat/empty"),
    file("chat/sub/b.sh", b"bb", 0o755),
)
OLD: tuple[Item, ...] = (
    folder("chat", 0o700),
    file("chat/b.sh", b"bb", 0o775),
    folder("chat/sub", 0o775),
    file("chat/sub/a", b"a", 0o600),
)
"""As the original Flatpack makes them: without a manifest, in no order."""


def instead_of(at: int, *items: Item) -> list[Item]:
    return [*GOOD[:at], *items, *GOOD[at + 1 :]]


def archive(items: Sequence[Item], end: Callable[[int], bytes] = tar.ending) -> bytes:
    data = b"".join(header + content + tar.padding(len(content)) for header, content in items)
    return data + end(len(data))


def signed(path: Path, content: bytes, key: PrivateKey, **options: object) -> Path:
    """``content``, compressed, signed, as the box ``path``, whatever is in it; ``options`` are zstd's."""
    options = {"write_checksum": True, **options}
    return sealed(path, zstandard.ZstdCompressor(**options).compress(content), key)  # type: ignore[arg-type]


def sealed(path: Path, payload: bytes, key: PrivateKey) -> Path:
    """``payload`` signed as the box ``path``, by somebody who does not look at it."""
    signature = sign_digest(hashlib.sha256(payload).digest(), key, SignatureHash.SHA256)
    path.write_bytes(payload + SEPARATOR + signature)
    return path


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that is below ``folder``: content of files, ``None`` for folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
