"""The cache looked after while it is in use, by real processes: gc beside builds, kills, limits, bit flips."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from flatpack_build.digest import Digest
from flatpack_build.stamps import last_uses
from flatpack_build.store.inventory import take_inventory
from flatpack_build.store.use import have_alone
from tests.e2e.conftest import GREETING, WORDS, Project, make_project
from tests.fetching.server import Site, running
from tests.gguf_files import gguf
from tests.store.filling import Cache, flip_a_bit

SLOW = """\
version = "0.1.0"
targets = ["laptop"]

[environment]
model_name = "slow"

[build.slow]
command = "sleep 2; cat words.txt > slow.txt"
inputs = ["words.txt"]
outputs = ["slow.txt"]
"""

MODEL = """
[model]
source = "file:tiny.gguf"
quant = "keep"
"""

FETCHING = """\
version = "0.1.0"
targets = ["laptop"]

[environment]
model_name = "fetching"

[[file]]
from_source = "{url}"
to_destination = "data/table.csv"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a flatpack that was built; tests leave it built, too."""
    root = tmp_path_factory.mktemp("care")
    project = make_project(root / "project", root / "cache")
    project.write("model", GREETING.replace("small", "model") + MODEL, {**WORDS, "tiny.gguf": gguf()})
    project.doit("build:model")
    yield project


@pytest.fixture
def copied(model: Project, tmp_path: Path) -> Project:
    """That project and its cache, to be damaged."""
    project = Project(tmp_path / "project", tmp_path / "cache")
    shutil.copytree(model.root, project.root)
    shutil.copytree(model.cache, project.cache)
    return project


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def payloads(project: Project) -> dict[str, bytes]:
    """What the boxes hold. Signatures are salted: a box that had to be signed again is another one around the same payload."""
    return {
        target: box.read_bytes().rpartition(b"---SIGNATURE_SEPARATOR---")[0] for target, box in project.boxes.items()
    }


def is_running(project: Project, step: str) -> bool:
    return any(project.cache.glob(f"tmp/*/{step}-*/out"))


def test_gc_waits_for_a_build_and_takes_nothing_from_it(project: Project) -> None:
    project.write("slow", SLOW, WORDS)
    project.flatpack("lock", "slow")
    build = project.start("doit", "build:slow")
    wait_for(lambda: is_running(project, "run"))
    refused = project.flatpack("cache", "gc", "--max-size", "0B", "--no-wait", check=False)
    assert refused.returncode == 1
    assert "a build uses the cache" in refused.stderr
    assert build.poll() is None
    gc = project.start("flatpack_build", "cache", "gc", "--max-size", "0B")
    built, _ = build.communicate(timeout=60)
    assert build.returncode == 0, built
    collected, _ = gc.communicate(timeout=60)
    assert gc.returncode == 0, collected
    assert "waiting for a build that uses the cache" in collected
    assert Cache(project.cache).known() == set()
    before = payloads(project)
    assert "run:slow/slow" in project.built("build:slow")
    assert payloads(project) == before


def test_a_killed_build_holds_nothing_up(project: Project) -> None:
    project.write("slow", SLOW, WORDS)
    project.flatpack("lock", "slow")
    build = project.start("doit", "build:slow")
    wait_for(lambda: is_running(project, "run"))
    build.kill()
    build.communicate(timeout=30)
    assert list((project.cache / "tmp").iterdir()) != []
    said = json.loads(project.flatpack("cache", "gc", "--no-wait", "--json").stdout)
    assert said["over_limit"] == 0
    assert list((project.cache / "tmp").iterdir()) == []
    assert list((project.cache / "locks").iterdir()) == []


def test_a_build_waits_for_gc_and_says_so(model: Project) -> None:
    alone = have_alone(model.cache, wait=False)
    assert alone is not None
    build = model.start("doit", "build:model")
    time.sleep(1.5)
    assert build.poll() is None
    alone.release()
    said, _ = build.communicate(timeout=30)
    assert build.returncode == 0, said
    assert "waiting: the cache is being cleaned up" in said


def test_a_build_with_nothing_to_do_uses_all_that_its_boxes_are_made_of(model: Project) -> None:
    model.doit("build:model")
    stamps = model.root / "build/stamps"
    assert last_uses(stamps).keys() == Cache(model.cache).known()
    os.utime(stamps / "model.json", (1_700_000_000, 1_700_000_000))
    model.doit("build:model@laptop")
    assert min(last_uses(stamps).values()) > time.time() - 60


def test_gc_killed_at_any_moment_leaves_a_valid_cache(model: Project, tmp_path: Path) -> None:
    project = Project(model.root, tmp_path / "cache")  # a cache that takes a while to clean
    cache = Cache(project.cache)
    project.doit("build:model")
    for number in range(1500):
        cache.put(f"n{number}", {"out": b"%d" % number}, age=number)
    for left in (1400, 700, 1):
        gc = project.start("flatpack_build", "cache", "gc", "--max-size", "0B")
        wait_for(partial(has_at_most, project.cache / "actions", left))
        gc.send_signal(signal.SIGKILL)
        gc.communicate()
        assert gc.returncode == -signal.SIGKILL  # not done already
        assert cache.dangling() == []
    project.flatpack("cache", "verify")
    before = payloads(project)
    project.doit("build:model")
    assert payloads(project) == before


def has_at_most(folder: Path, number: int) -> bool:
    return sum(len(files) for _, _, files in os.walk(folder)) <= number


def test_locked_sources_are_not_fetched_again(project: Project) -> None:
    with running() as site:
        build_and_collect(project, site)


def build_and_collect(project: Project, site: Site) -> None:
    project.write("fetching", FETCHING.format(url=site.serve("/table.csv", b"a,b\n1,2\n" * 1000)))
    project.doit("build:fetching")
    before = payloads(project)
    asked = len(site.requests)
    said = json.loads(project.flatpack("cache", "gc", "--max-size", "1B", "--max-age", "0h", "--json").stdout)
    assert said["kept_for_locks"] >= 8000
    assert said["over_limit"] > 0
    assert [action.result.step for action in take_inventory(project.cache).actions if action.result] == ["fetch"]
    shutil.rmtree(project.root / "dist")
    assert "fetch:fetching" not in " ".join(project.built("build:fetching"))
    assert payloads(project) == before
    assert len(site.requests) == asked


def test_a_build_holds_the_limits_once_a_day(model: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "cache")
    shutil.copytree(model.root, project.root, ignore=shutil.ignore_patterns("build", "dist"))
    project.edit("pyproject.toml", "[tool.flatpack-build]", '[tool.flatpack-build]\ncache_max_size = "1B"')
    cache = Cache(project.cache)
    words = project.root / "warehouse/model/words.txt"
    said = project.doit("build:model").stdout
    assert "cache: removed" in said.splitlines()[-1]
    assert cache.known() == set()
    assert sorted(project.boxes) == ["laptop", "pi5"]
    words.write_text("other\n")
    assert "cache: removed" not in project.doit("build:model").stdout
    assert cache.known() != set()
    yesterday = time.time() - 25 * 3600
    os.utime(project.cache / "last-gc", (yesterday, yesterday))
    assert "cache: removed" not in project.doit("build:model").stdout  # nothing to do: nothing is done
    words.write_text("again\n")
    assert "cache: removed" in project.doit("build:model").stdout
    assert cache.known() == set()


def parts(project: Project) -> dict[str, Path]:
    """One blob of each kind, by what it is."""
    found: dict[str, Digest] = {}
    inventory = take_inventory(project.cache)
    for action in inventory.actions:
        assert action.result is not None
        tree = None if action.result.is_blob else inventory.tree(action.result.tree)
        found[f"{'box' if tree is None else 'tree'} of {action.result.step}"] = action.result.tree
        for entry in tree.entries if tree is not None else ():
            if entry.kind != "dir":
                found[f"{entry.path} of {action.result.step}"] = entry.digest
    return {what: inventory.root / "blobs" / digest[:2] / digest for what, digest in found.items()}


TREES = ["tree of verify", "tree of run", "tree of assemble", "tree of pack"]
FILES = ["tiny.gguf of verify", "greeting.txt of run", "payload.tar.zst of pack", "box of sign"]


def check_healed(project: Project, name: str, before: dict[str, bytes]) -> None:
    project.doit(f"build:{name}")
    assert payloads(project) == before
    keys = project.root / "keys/development.pub.pem"
    project.flatpack("verify", "--contents", *map(str, project.boxes.values()), "--key", str(keys))


def test_verify_finds_flipped_bits_and_the_next_build_heals(copied: Project) -> None:
    before = payloads(copied)
    blobs = {parts(copied)[what] for what in TREES + FILES}
    for blob in blobs:
        flip_a_bit(blob)
    done = copied.flatpack("cache", "verify", check=False)
    assert done.returncode == 1
    assert done.stdout.count("damaged blob") == len(blobs)
    assert all(blob.name[:12] in done.stdout for blob in blobs)
    assert not any(blob.exists() for blob in blobs)
    copied.edit("warehouse/model/words.txt", "hello", "hi")
    copied.doit("build:model")
    copied.edit("warehouse/model/words.txt", "hi", "hello")
    shutil.rmtree(copied.root / "dist")
    check_healed(copied, "model", before)
    copied.flatpack("cache", "verify")


@pytest.mark.parametrize("kinds", [TREES, FILES], ids=["trees", "files"])
def test_a_build_that_verifies_heals_at_once(
    copied: Project, monkeypatch: pytest.MonkeyPatch, kinds: list[str]
) -> None:
    before = payloads(copied)
    found = parts(copied)
    for blob in {found[what] for what in kinds}:
        flip_a_bit(blob)
    shutil.rmtree(copied.root / "dist")
    monkeypatch.setenv("FLATPACK_VERIFY_CACHE", "1")
    copied.edit("warehouse/model/words.txt", "hello", "changed")  # so that the model and more is read
    copied.doit("build:model")
    copied.edit("warehouse/model/words.txt", "changed", "hello")
    check_healed(copied, "model", before)


def test_a_damaged_file_of_the_user_does_not_get_into_a_box(project: Project) -> None:
    project.write("small", GREETING.replace('"laptop", "pi5"', '"laptop"'), {**WORDS, "large.txt": b"-" * 100_000})
    project.doit("build:small")
    (large,) = (blob for blob in take_inventory(project.cache).blobs.values() if blob.size == 100_000)
    flip_a_bit(Path(large.path))
    project.edit("warehouse/small/words.txt", "hello", "hi")
    said = project.doit("build:small", check=False).stdout
    assert "the cache was damaged: 'large.txt' is not what it was" in said
    project.doit("build:small")
    project.flatpack("cache", "verify")
    assert large.digest in take_inventory(project.cache).blobs


def test_damage_beside_an_empty_folder_is_named_and_healed(project: Project) -> None:
    """Of all that was to be packed, only what is damaged is removed; a folder has nothing that could be."""
    manifest = GREETING.replace('"laptop", "pi5"', '"laptop"') + '\n[directories]\na-folder = "a-folder"\n'
    project.write("small", manifest, {**WORDS, "large.txt": b"-" * 100_000})
    project.doit("build:small")
    blobs = take_inventory(project.cache).blobs.values()
    (large,) = (blob for blob in blobs if blob.size == 100_000)
    flip_a_bit(Path(large.path))
    project.edit("warehouse/small/flatpack.toml", "[build.greeting]", "[agent]\nport = 9000\n\n[build.greeting]")
    said = project.doit("build:small", check=False).stdout
    assert "the cache was damaged: 'large.txt'" in said
    project.doit("build:small")
    project.flatpack("cache", "verify")


@pytest.mark.network
def test_a_damaged_index_is_healed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", tmp_path / "cache", "hello-docs")
    project.doit("build:hello-docs")
    before = payloads(project)
    found = parts(project)
    for what in ("index.hnsw of index", "chunks.jsonl of index", "tree of index"):
        flip_a_bit(found[what])
    assert project.flatpack("cache", "verify", check=False).returncode == 1
    shutil.rmtree(project.root / "dist")
    project.edit("warehouse/hello-docs/flatpack.toml", "The field manual", "A field manual")
    project.doit("build:hello-docs")
    project.edit("warehouse/hello-docs/flatpack.toml", "A field manual", "The field manual")
    check_healed(project, "hello-docs", before)
