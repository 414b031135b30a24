"""A stamp is fresh only while nothing it saw has changed in any way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flatpack_build.stamps import TICK_NS, Stamp, StampedBox, Stamps, settled, signature


@pytest.fixture
def seen(tmp_path: Path) -> dict[str, list[int] | None]:
    """A file, a folder and something absent, old enough to be trusted."""
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    (tmp_path / "box").write_text("box")
    (tmp_path / "box.provenance.json").write_text("{}")
    time.sleep(2 * TICK_NS / 1e9)
    return {str(tmp_path / name): signature(str(tmp_path / name)) for name in ("file", "folder", "absent")}


def put(
    tmp_path: Path, seen: dict[str, list[int] | None], *, circumstances: str = "here", whole: bool = True
) -> Stamps:
    stamps = Stamps(str(tmp_path / "stamps"), circumstances)
    path = str(tmp_path / "box")
    status = signature(path)
    assert status is not None
    beside = {f"{path}{suffix}": signature(f"{path}{suffix}") for suffix in (".provenance.json", ".model.sig")}
    box = StampedBox("pi5", "pack:x@pi5", "Q4_0", 3, path, status, beside)
    stamps.put("x", seen, {}, Stamp((box,), 7), whole=whole)
    return Stamps(str(tmp_path / "stamps"), circumstances)


def test_what_did_not_change_is_fresh(tmp_path: Path, seen: dict[str, list[int] | None]) -> None:
    stamp = put(tmp_path, seen).fresh("x")
    assert stamp is not None
    assert stamp.actions == 7
    assert [box.target for box in stamp.boxes] == ["pi5"]


@pytest.mark.parametrize(
    "change",
    [
        "echo other > file",
        "touch file",
        "rm file",
        "touch folder/new",
        "touch absent",
        "rm box",
        "cp box copy; mv copy box",
        "rm box.provenance.json",
        "touch box.model.sig",
        # The same size and the same mtime: the inode's change time still tells.
        "cp -p box keep; printf BOX > box; touch -r keep box",
        "cp -p file keep; printf TEXT > file; touch -r keep file",
    ],
)
def test_any_change_shows(tmp_path: Path, seen: dict[str, list[int] | None], change: str) -> None:
    stamps = put(tmp_path, seen)
    assert stamps.fresh("x") is not None
    os.system(f"cd '{tmp_path}' && {change}")
    assert put_again(tmp_path).fresh("x") is None


def put_again(tmp_path: Path) -> Stamps:
    return Stamps(str(tmp_path / "stamps"), "here")


def test_other_circumstances_and_damage_are_not_fresh(tmp_path: Path, seen: dict[str, list[int] | None]) -> None:
    put(tmp_path, seen)
    assert Stamps(str(tmp_path / "stamps"), "elsewhere").fresh("x") is None
    for damage in (b"", b"{}", b"[1]", b'{"format": 1}', b"\xff"):
        (tmp_path / "stamps/x.json").write_bytes(damage)
        assert put_again(tmp_path).fresh("x") is None


def test_a_part_is_not_the_whole(tmp_path: Path, seen: dict[str, list[int] | None]) -> None:
    stamps = put(tmp_path, seen, whole=False)
    assert stamps.fresh("x") is None
    assert stamps.fresh("x", ["pi5"]) is not None
    assert stamps.fresh("x", ["pi5", "laptop"]) is None


def test_what_changed_a_moment_ago_is_not_stamped(tmp_path: Path, seen: dict[str, list[int] | None]) -> None:
    (tmp_path / "file").write_text("now")
    just_now = {str(tmp_path / "file"): signature(str(tmp_path / "file"))}
    assert put(tmp_path, {**seen, **just_now}).fresh("x") is None
    assert not settled(signature(str(tmp_path / "file")), time.time_ns())
    # A clock that was set back makes everything look as if it had just changed.
    assert not settled(seen[str(tmp_path / "folder")], 0)
