"""A disk that fills up, at one place of a build after another: the message names it, and with space the build goes on.

FLATPACK_FILLS says at how many places of a real build; each is hit a little differently, since a build runs many things
at once. A small graph, whose steps run in this process and one after another, is hit at every place there is.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from flatpack_build.action import Output, SourceFile, SourceTree
from flatpack_build.digest import Digest
from flatpack_build.errors import FlatpackError, StepError
from flatpack_build.events import Listener
from flatpack_build.executor.protocol import Execution, Job
from tests.computing import Computing, step, write
from tests.computing import Ground as Graphs
from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground
from tests.faults.mounts import need_mounts, remount, small_disk

_FILLS = int(os.environ.get("FLATPACK_FILLS", "6"))
_PAGE = 4096


@pytest.fixture(autouse=True)
def _mounts(tmp_path: Path) -> None:
    need_mounts(tmp_path)


def used(folder: Path) -> int:
    """Bytes in whole pages, as a tmpfs counts them; two names of one file count twice."""
    return sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def growth(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[int, int]]:
    """Bytes before and after a build, of the cache and of the project."""
    built = undisturbed.fresh.copy(tmp_path_factory.mktemp("growth") / "built")
    before = {"cache": used(built.cache), "project": used(built.project)}
    built.good_build()
    return {"cache": (before["cache"], used(built.cache)), "project": (before["project"], used(built.project))}


def fails_then_goes_on(ground: Ground, folder: Path, payloads: Mapping[str, Digest], more: str, jobs: int = 2) -> None:
    status, said = ground.build("-n", str(jobs), "small")
    if status != 0:
        print(said)
        assert "No space left on device" in said or "is full" in said, said
        named = ("dist/", "build/") if folder == ground.project else (str(folder),)
        assert any(name in said for name in named), said
        assert "free some space" in said or "the disk is full" in said, said
    remount(folder, more)
    ground.good_build()
    assert ground.payloads() == payloads
    ground.assert_clean()


@pytest.mark.parametrize("place", range(_FILLS))
@pytest.mark.parametrize("name", ["cache", "project"])
def test_a_disk_that_fills_up_is_named_and_with_space_the_build_goes_on(
    ground: Ground,
    undisturbed: Undisturbed,
    growth: Mapping[str, tuple[int, int]],
    chance: random.Random,
    name: str,
    place: int,
) -> None:
    folder = {"cache": ground.cache, "project": ground.project}[name]
    before, after = growth[name]
    size = before + _PAGE + int((after - before) * (place + chance.random() if place else 0) / _FILLS)
    print(f"{name}: {size} bytes, from {before} to {after}")
    with small_disk(folder, f"size={size // 1024}k"):
        fails_then_goes_on(ground, folder, undisturbed.payloads, "size=256m", jobs=1 + place % 2)


@pytest.mark.parametrize("place", range(max(2, _FILLS // 3)))
def test_a_disk_with_no_room_for_another_file_is_named_too(
    ground: Ground, undisturbed: Undisturbed, chance: random.Random, place: int
) -> None:
    files = sum(1 for _ in ground.cache.rglob("*")) + 4 + chance.randrange(100)
    print(f"{files} files")
    with small_disk(ground.cache, f"size=256m,nr_inodes={files}"):
        fails_then_goes_on(ground, ground.cache, undisturbed.payloads, "nr_inodes=10k")


# verify is not among them: what it hands on is in the store already, and takes no space.
@pytest.mark.parametrize(
    ("before", "task"),
    [
        ([], "fetch:small"),
        (["verify:small"], "compress:small@pi5"),
        ([], "index:small"),
        ([], "run:small/words"),
        (["run:small/words"], "assemble:small@pi5"),
        (["index:small", "assemble:small@pi5", "device:small@pi5", "compress:small@pi5"], "pack:small@pi5"),
    ],
)
def test_each_step_on_a_disk_that_is_full_before_it_is_done(
    ground: Ground, undisturbed: Undisturbed, chance: random.Random, before: list[str], task: str
) -> None:
    with small_disk(ground.cache, "size=256m"):
        if before:
            assert ground.doit(*before)[0] == 0
        beginning = used(ground.cache)
        with_it = ground.copy(ground.root.with_name("with-it"))
        assert with_it.doit(task)[0] == 0
        growth = used(with_it.cache) - beginning
        for part in (0, 0.4 + 0.5 * chance.random()):
            remount(ground.cache, f"size={(beginning + int(growth * part)) // 1024 + 4}k")
            status, said = ground.doit(task)
            print(said)
            assert status != 0
            assert "No space left on device" in said or "is full" in said, said
            assert str(ground.cache) in said, said
            assert "free some space" in said or "the disk is full" in said, said
        remount(ground.cache, "size=256m")
        ground.good_build()
        assert ground.payloads() == undisturbed.payloads
        ground.assert_clean()


class Writing(Computing):
    """Says what a step says whose output does not fit; and its outputs take several pages each."""

    def run(self, job: Job, listener: Listener) -> Execution:
        try:
            done = super().run(job, listener)
            (job.out / "more").write_bytes(job.name.encode() * 3000)
        except OSError as error:
            raise StepError(f"{job.name} could not write its output: {error.strerror}") from error
        return done


@pytest.mark.parametrize("what", ["bytes", "files"])
def test_a_build_goes_on_from_wherever_the_disk_was_full(tmp_path: Path, what: str) -> None:
    """One page, or one file, more each time, until it is enough for the whole build."""
    graphs = Graphs(tmp_path)
    graphs.executor = Writing()
    write(graphs, "source", "a" * 5000)
    write(graphs, "other", "b" * 9000)
    source = SourceFile(str(graphs.user / "source"))
    actions = [
        step("last", first=Output("fold", "result")),
        step("fold", upper=True, source=source),
        step("other", tree=SourceTree(str(graphs.user), ("other",))),
    ]
    cache = tmp_path / "cache"
    texts = graphs.build(actions)
    shutil.rmtree(cache)
    cache.mkdir()
    failed = 0
    for room in range(1, 500):
        (tmp_path / "digests.json").unlink(missing_ok=True)
        limit = f"size={room * _PAGE}" if what == "bytes" else f"size=16m,nr_inodes={room}"
        with small_disk(cache, limit):
            try:
                assert graphs.build(actions) == texts
            except FlatpackError as error:
                failed += 1
                assert "No space left on device" in str(error) or "is full" in str(error), f"{room} {what}: {error}"
                assert str(cache) in str(error), f"{room} {what}: {error}"
                assert "free some space" in error.hint, f"{room} {what}: {error}"
            else:
                break
            remount(cache, "size=16m,nr_inodes=10k")
            assert graphs.build(actions) == texts
            assert list((cache / "tmp").iterdir()) == []
            for blob in (cache / "blobs").rglob("*"):
                assert blob.is_dir() or Digest.of_file(blob) == blob.name
            graphs.build(actions)
            assert graphs.executor.ran == []
        (tmp_path / "cache.before").rename(cache.with_name("cache.empty"))
        cache.rmdir()
        (tmp_path / "cache.empty").rename(cache)
    else:
        pytest.fail("500 pages were not enough")
    print(f"{failed} places")
    assert failed >= 15
