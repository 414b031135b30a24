"""The decompressed payload as a stream that stops before it has grown too large. Knows zstd, no archive, no signature."""

from __future__ import annotations

from flatpack_build.box.limits import Limits
from flatpack_build.box.tar import Readable
from flatpack_build.errors import BoxError

_READ_SIZE = 256 * 1024


class _Counted:
    """``file``, and how many bytes were read from it."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data


class PayloadStream:
    """The content of the one zstd frame that ``file`` begins with. What is wrong with it comes out as ``BoxError``."""

    def __init__(self, file: Readable, limits: Limits) -> None:
        import zstandard  # heavy

        self._error = zstandard.ZstdError
        self._limits = limits
        self._compressed = _Counted(file)
        self._count = 0
        # Without read_across_frames=False it would go on behind the frame, where separator and signature stand.
        self._stream = zstandard.ZstdDecompressor(max_window_size=limits.window).stream_reader(
            self._compressed,  # type: ignore[arg-type]  # it asks for read() only
            read_size=_READ_SIZE,
            read_across_frames=False,
            closefd=False,
        )

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._stream.read(size)
        except (self._error, MemoryError) as error:
            raise BoxError(f"the payload cannot be decompressed: {error}") from None
        self._count += len(data)
        limits = self._limits
        if limits.total_size is not None and self._count > limits.total_size:
            raise BoxError(
                f"the box holds more than {limits.total_size:,} bytes, which is all that may be unpacked here",
                hint="make room on the disk, if the box is meant to be that large",
            )
        if self._count > limits.ratio_floor and self._count > limits.ratio * self._compressed.count:
            raise BoxError(f"the payload grows to more than {limits.ratio:,} times its size when it is decompressed")
        return data
