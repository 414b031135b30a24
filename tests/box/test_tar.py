from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flatpack_build.box import tar
from flatpack_build.errors import BoxError

paths = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=60).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=4,
).map("/".join)


def _archive(items: list[tuple[str, int, bytes]]) -> bytes:
    data = b""
    for path, mode, content in items:
        data += tar.encode_header(path, "file", mode, len(content)) + content + tar.padding(len(content))
    return data + tar.ending(len(data))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other tests may keep the machine busy
@given(st.lists(st.tuples(paths, st.sampled_from([0o644, 0o755]), st.binary(max_size=1500)), max_size=5))
def test_what_is_written_reads_back_here_and_with_the_standard_library(items: list[tuple[str, int, bytes]]) -> None:
    data = _archive(items)
    assert len(data) % tar.RECORD == 0
    reader = tar.TarReader(io.BytesIO(data))
    ours = [(entry.path, entry.mode, b"".join(reader.content())) for entry in reader]
    reader.finish()
    assert ours == items
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8") as archive:
        theirs = [(m.name, m.mode, archive.extractfile(m).read()) for m in archive.getmembers()]  # type: ignore[union-attr]
        assert all((m.uid, m.gid, m.uname, m.gname, m.mtime) == (0, 0, "", "", tar.MTIME) for m in archive.getmembers())
    assert theirs == [(path.rstrip("/"), mode, content) for path, mode, content in items]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_the_standard_library_are_read(tmp_path: Path, format: int) -> None:
    long_name = "d/" + "n" * 90 + "/" + "m" * 50
    (tmp_path / "d" / ("n" * 90)).mkdir(parents=True)
    (tmp_path / long_name).write_bytes(b"abc" * 700)
    (tmp_path / "d" / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "d" / "pipe")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        archive.add(tmp_path / "d", "d")
    buffer.seek(0)
    reader = tar.TarReader(buffer)
    entries = {entry.path: (entry.kind, b"".join(reader.content())) for entry in reader}
    reader.finish()
    assert entries[long_name] == ("file", b"abc" * 700)
    assert entries["d"][0] == "folder"
    assert entries["d/link"][0] == "symbolic link"
    assert entries["d/pipe"][0] == "pipe"


def test_a_file_over_eight_gibibytes_has_a_header_that_others_read() -> None:
    header = tar.encode_header("big", "file", 0o644, 9 * 2**30)
    entry = next(iter(tar.TarReader(io.BytesIO(header))))
    assert entry.size == 9 * 2**30
    archive = tarfile.open(fileobj=io.BytesIO(header + bytes(tar.BLOCK)), mode="r|")  # noqa: SIM115
    member = archive.next()
    assert member is not None and member.size == 9 * 2**30


@given(st.binary(max_size=2000), st.integers(0, 3000))
def test_damage_is_always_a_box_error(noise: bytes, at: int) -> None:
    data = bytearray(_archive([("a", 0o644, b"x" * 700), ("ö" * 80, 0o644, b"y")]))
    data[at : at + len(noise)] = noise
    reader = tar.TarReader(io.BytesIO(bytes(data)))
    try:
        for _ in reader:
            for _ in reader.content():
                pass
        reader.finish()
    except BoxError:
        pass


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (tar.encode_header("a", "file", 0o644, 10) + b"abc", "middle of a file"),
        (tar.encode_header("a", "file", 0o644, 10)[:-1], "cut off"),
        (b"x" * 512, "checksum"),
        (_archive([]) + b"more", "after its end"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    reader = tar.TarReader(io.BytesIO(data))
    with pytest.raises(BoxError, match=message):
        for _ in reader:
            pass
        reader.finish()


def test_a_huge_extended_header_is_not_read_into_memory() -> None:
    header = tar._ustar(b"x", b"x", 0o644, 10 * 2**20)
    with pytest.raises(BoxError, match="extended header of 10485760 bytes"):
        next(iter(tar.TarReader(io.BytesIO(header))))
