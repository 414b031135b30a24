"""Where a zstd frame ends, found by stepping over its blocks, none decompressed. Knows no box and no signature."""

from __future__ import annotations

import os

MAGIC = b"\x28\xb5\x2f\xfd"

_CHECKSUM_SIZE = 4
_RLE, _RESERVED = 1, 3


class FrameError(ValueError):
    """Bytes that are no whole zstd frame. ``cut``: they begin as one, and end too early."""

    def __init__(self, message: str, *, cut: bool = False) -> None:
        super().__init__(message)
        self.cut = cut


def frame_end(fd: int, size: int, *, max_blocks: int | None = None) -> int:
    """The offset after the zstd frame that begins at 0, in a file of which ``size`` bytes count.

    Takes one small read for each block (at most 128 KiB of content); ``max_blocks`` bounds them for a file that nobody
    vouches for. Raises ``FrameError``.
    """
    head = os.pread(fd, min(18, size), 0)
    if head[:4] != MAGIC:
        raise FrameError("it does not begin with a zstd frame")
    if len(head) < 5:
        raise FrameError("it ends in the frame's header", cut=True)
    descriptor = head[4]
    single, checksum = bool(descriptor & 0x20), bool(descriptor & 0x04)
    content_size = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + content_size
    blocks = 0
    while True:
        if at + 3 > size:
            raise FrameError("it ends in the middle of the frame", cut=True)
        if max_blocks is not None and blocks >= max_blocks:
            raise FrameError("the frame has too many blocks")
        header = int.from_bytes(os.pread(fd, 3, at), "little")
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        if kind == _RESERVED:
            raise FrameError("the frame has a block of no known kind")
        at += 3 + (1 if kind == _RLE else length)
        blocks += 1
        if last:
            break
    at += _CHECKSUM_SIZE if checksum else 0
    if at > size:
        raise FrameError("it ends in the middle of the frame", cut=True)
    return at
