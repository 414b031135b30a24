from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import zstandard

from flatpack_build.box.frame import FrameError, frame_end

CONTENTS = {
    "empty": b"",
    "short": b"hello",
    "zeros": bytes(1_000_000),  # run-length blocks
    "text": b"the same line again and again\n" * 20_000,
    "noise": random.Random(1).randbytes(700_000),  # raw blocks
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize(
    "options", [{}, {"write_checksum": True}, {"write_content_size": False}, {"threads": 2}], ids=str
)
def test_the_end_of_a_frame_is_found_whatever_follows(tmp_path: Path, content: bytes, options: dict[str, int]) -> None:
    frame = zstandard.ZstdCompressor(**options).compress(content)  # type: ignore[arg-type]
    path = tmp_path / "frame"
    path.write_bytes(frame + b"and more")
    with open(path, "rb") as file:
        assert frame_end(file.fileno(), len(frame) + 8) == len(frame)
        assert frame_end(file.fileno(), len(frame)) == len(frame)


def test_every_shorter_piece_is_cut_off(tmp_path: Path) -> None:
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(b"some content to compress, " * 9)
    path = tmp_path / "frame"
    path.write_bytes(frame)
    fd = os.open(path, os.O_RDONLY)
    for size in range(4, len(frame)):
        with pytest.raises(FrameError) as caught:
            frame_end(fd, size)
        assert caught.value.cut
    os.close(fd)


def test_the_number_of_steps_can_be_bounded(tmp_path: Path) -> None:
    path = tmp_path / "frame"
    path.write_bytes(zstandard.compress(bytes(10_000_000)))
    with open(path, "rb") as file, pytest.raises(FrameError, match="too many blocks"):
        frame_end(file.fileno(), path.stat().st_size, max_blocks=5)
