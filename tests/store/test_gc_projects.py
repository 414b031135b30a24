"""What the projects of this machine need survives garbage collection: locked sources, and what fresh stamps rely on."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.limits import Limits
from flatpack_build.manifest.lock import Lock, LockedSource, LockedWheel, LockedWheels, write_lock
from flatpack_build.project import Project, Settings
from flatpack_build.stamps import Stamp, Stamps
from flatpack_build.store.gc import collect, preview
from flatpack_build.store.projects import register, registered
from tests.store.filling import DAY, LATER, Cache, big, fetch, fill


def project_of(cache: Cache, root: Path) -> Project:
    return Project(root, Settings(cache=str(cache.root)))


def lock_in(project: Path, sources: list[LockedSource], wheels: tuple[LockedWheels, ...] = ()) -> Path:
    file = project / "warehouse/chat/flatpack.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_lock(file, Lock({source.source: source for source in sources}, wheels))
    return file


def locked(url: str, data: bytes) -> LockedSource:
    return LockedSource(url, fetch(url, data).files, {}, len(data))


def test_locked_sources_survive_every_limit(cache: Cache, tmp_path: Path) -> None:
    url = "https://example.org/model.gguf"
    wheels = LockedWheels("linux", "3.11", ("a",), (LockedWheel("a", "1", "a-1.whl", Digest.of_bytes(b"wheel")),))
    needed = cache.put("fetch:chat", {"file": big(1)}, params=fetch(url, big(1)), age=365 * DAY)
    needed_too = cache.put("fetch:chat/wheels", {"a-1.whl": b"wheel"}, params=wheels.params(), age=365 * DAY)
    old = cache.put("fetch:old", {"file": big(2)}, params=fetch(url, big(2)))
    fill(cache)
    project = tmp_path / "project"
    lock_in(project, [locked(url, big(1)), LockedSource("file:m.gguf", {"m.gguf": Digest("a" * 64)}, {}, 1)], (wheels,))
    register(project_of(cache, project))
    done = collect(cache.root, Limits(max_size=1000, max_age=60), now=LATER)
    assert cache.known() == {needed, needed_too}
    assert old in {action.key for action in done.actions}
    assert done.locked >= 100_005
    assert done.over == done.size_after - 1000 > 0
    assert cache.dangling() == []
    (project / "warehouse/chat/flatpack.lock").unlink()
    collect(cache.root, Limits(max_size=0), now=LATER)
    assert cache.known() == set()


def test_a_project_that_is_gone_protects_nothing(cache: Cache, tmp_path: Path) -> None:
    url = "https://example.org/a"
    cache.put("fetch:a", {"file": big(1)}, params=fetch(url, big(1)))
    project = tmp_path / "project"
    file = lock_in(project, [locked(url, big(1))])
    for _ in range(2):
        register(project_of(cache, project))
    assert len(list(registered(cache.root))) == 1
    file.unlink()
    file.parent.rmdir()
    (project / "warehouse").rmdir()
    preview(cache.root, Limits(max_size=0), now=LATER)
    project.rmdir()
    assert len(preview(cache.root, Limits(max_size=0), now=LATER).gone) == 1
    assert len(list(registered(cache.root))) == 1
    collect(cache.root, Limits(max_size=0), now=LATER)
    assert list(registered(cache.root)) == []
    assert cache.known() == set()


def test_a_lock_that_cannot_be_read_keeps_every_fetched_source(cache: Cache, tmp_path: Path) -> None:
    fetched = cache.put("fetch:a", {"file": big(1)}, params=fetch("https://example.org/a", big(1)), age=DAY)
    cache.put("run:a", {"out": big(2)})
    project = tmp_path / "project"
    lock_in(project, []).write_text("<<<<<<< HEAD\nversion = 1\n")
    register(project_of(cache, project))
    done = collect(cache.root, Limits(max_size=0), now=LATER)
    assert cache.known() == {fetched}
    assert len(done.unreadable) == 1
    assert "flatpack.lock" in done.unreadable[0]


def test_a_damaged_registration_is_written_again(cache: Cache, tmp_path: Path) -> None:
    register(project_of(cache, tmp_path))
    (known,) = registered(cache.root)
    known.file.write_bytes(b"")
    assert list(registered(cache.root)) == []
    register(project_of(cache, tmp_path))
    assert list(registered(cache.root)) == [known]


def test_what_a_fresh_stamp_spares_a_look_at_is_in_use(cache: Cache, tmp_path: Path) -> None:
    """A build with nothing to do asks for no key. What it relies on must not look forgotten."""
    keys = fill(cache)
    project = project_of(cache, tmp_path / "project")
    register(project)
    stamps = Stamps(str(project.stamps), "here")
    stamps.put("x", {}, {}, Stamp((), 1), whole=True, keys=[keys[0], "gone" * 16])
    file = project.stamps / "x.json"
    for before, after in ((LATER - 9 * DAY, None), (time.time() - 1800, time.time() - 1800)):
        os.utime(file, (before, before))
        assert stamps.fresh("x") is not None
        assert abs(file.stat().st_mtime - (after or time.time())) < 60
    (project.stamps / "damaged.json").write_bytes(b"\xff")
    (project.stamps / "old.json").write_text("{}")
    project.root.mkdir(exist_ok=True)
    said = preview(cache.root, Limits(max_size=250_000), now=LATER)
    assert [action.key for action in said.actions] == keys[1:5]
    os.utime(file, (LATER - 9 * DAY, LATER - 9 * DAY))
    assert [action.key for action in preview(cache.root, Limits(max_size=250_000), now=LATER).actions] == keys[:4]
