from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flatpack_build.box.landing import check_target, free_space, landing
from flatpack_build.errors import BoxError
from tests.box.archives import tree


def _fill(folder: Path, content: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text(content)


def _tree_of(content: str) -> dict[str, bytes | None]:
    return {"sub": None, "sub/file": content.encode()}


def test_a_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "out"
    with landing(target) as folder:
        _fill(folder, "new")
        assert folder.parent.parent == target.parent  # on the same file system
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert not target.exists()
    assert tree(target) == _tree_of("new")
    assert list(target.parent.iterdir()) == [target]


def test_after_an_error_everything_is_as_it_was(tmp_path: Path) -> None:
    def fail(target: Path, *, replace: bool) -> None:
        with landing(target, replace=replace) as folder:
            _fill(folder, "new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "deep" / "er" / "out", replace=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    _fill(tmp_path / "out", "old")
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "out", replace=True)
    assert tree(tmp_path) == {"out": None, "out/sub": None, "out/sub/file": b"old"}


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    _fill(target, "old")
    os.chmod(target / "sub", 0o500)  # as a careful user makes it
    with pytest.raises(BoxError, match="there already"), landing(target):
        pass
    assert tree(target) == _tree_of("old")
    with landing(target, replace=True) as folder:
        _fill(folder, "new")
        assert tree(target) == _tree_of("old")
    assert tree(target) == _tree_of("new")
    assert list(tmp_path.iterdir()) == [target]


def test_there_is_never_none_while_it_is_replaced(tmp_path: Path) -> None:
    """Somebody who looks all the time sees a whole folder each time."""
    target = tmp_path / "out"
    with landing(target) as folder:
        _fill(folder, "0")
    watch = "import os, sys\nwhile os.path.exists(sys.argv[2]):\n    open(sys.argv[1]).read()"
    (tmp_path / "go").touch()
    watcher = subprocess.Popen([sys.executable, "-c", watch, target / "sub" / "file", tmp_path / "go"])
    for number in range(300):
        with landing(target, replace=True, durable=False) as folder:
            _fill(folder, str(number))
    (tmp_path / "go").unlink()
    assert watcher.wait() == 0


def test_only_folders_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "link", "dangling"):
        with pytest.raises(BoxError, match="not a folder"):
            check_target(tmp_path / name, replace=True)
        with pytest.raises(BoxError, match="there already"):
            check_target(tmp_path / name, replace=False)
    with pytest.raises(BoxError, match="a whole file system"):
        check_target(Path("/"), replace=True)


def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises((BoxError, OSError)), landing(target):
        target.mkdir()  # an empty folder, which a plain rename would replace
    assert list(tmp_path.iterdir()) == [target]


def test_orphans_are_swept_and_nothing_else(tmp_path: Path) -> None:
    orphan = tmp_path / ".out.abcdefgh.unpacking"
    busy = tmp_path / ".out.ijklmnop.unpacking"
    others = [
        tmp_path / ".out.unpacking",
        tmp_path / ".out.tar.abcdefgh.unpacking",
        tmp_path / ".outabcdefgh.unpacking",
    ]
    for folder in (orphan, busy, *others):
        folder.mkdir()
        _fill(folder, "left")
    (tmp_path / ".out.qrstuvwx.unpacking").symlink_to(others[0])
    fd = os.open(busy, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)  # as whoever fills it holds it
    with landing(tmp_path / "out"):
        pass
    assert not orphan.exists()
    assert all((folder / "sub" / "file").exists() for folder in (busy, *others))
    os.close(fd)
    with landing(tmp_path / "out", replace=True):
        pass
    assert not busy.exists()


def test_what_others_laid_out_is_not_put_in_place(tmp_path: Path) -> None:
    """Only what we took away ourselves is put back."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of somebody else")
    planted = tmp_path / ".out.abcdefgh.unpacking"
    (planted / "old").mkdir(parents=True)
    os.chown(planted, 12345, 12345)
    with pytest.raises(ZeroDivisionError), landing(tmp_path / "out"):
        raise ZeroDivisionError
    assert not (tmp_path / "out").exists()


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_space(tmp_path / "a" / "b") == pytest.approx(free_space(tmp_path), rel=0.2)
