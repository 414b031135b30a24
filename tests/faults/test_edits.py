"""Inputs that are edited, or go away, while they are built from: what is recorded was never a mixture."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from flatpack_build.action import Action, SourceFile
from flatpack_build.builder import Builder
from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.graph import Graph
from flatpack_build.params import RunParams
from flatpack_build.record import Record
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.folders import load_tree
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from tests.faults.ground import Ground, finish
from tests.heard import Heard

_SLOW = """\
version = "0.1.0"
targets = ["laptop"]

[environment]
model_name = "slow"

[build.slow]
command = "cp words.txt first.txt; sleep 1.5; cp words.txt second.txt"
inputs = ["words.txt"]
outputs = ["first.txt", "second.txt"]
"""


def outputs(ground: Ground) -> dict[str, str]:
    """What the slow step made last, by the record of the build."""
    store = LocalStore(ground.cache)
    (line,) = (line for line in ground.record() if line["step"] == "run")
    tree = load_tree(store, Digest.parse(str(line["output"])))
    return {entry.path: store.path(entry.digest).read_text() for entry in tree.entries}


def test_an_edit_while_a_step_runs_is_built_next_time(ground: Ground) -> None:
    folder = ground.project / "warehouse/slow"
    folder.mkdir()
    (folder / "flatpack.toml").write_text(_SLOW)
    words = folder / "words.txt"
    words.write_text("old")
    finish(ground.start("lock", "slow"))
    build = ground.start("build", "slow")
    deadline = time.monotonic() + 60
    while not list((ground.cache / "tmp").glob("*/run-*/.run-*/files/first.txt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    words.write_text("new")
    status, said = finish(build)
    assert status == 0, said
    assert outputs(ground) == {"first.txt": "old", "second.txt": "old"}  # never one of each
    before = ground.payloads()
    assert "built    run:slow/slow" in ground.good_build("slow")
    assert outputs(ground) == {"first.txt": "new", "second.txt": "new"}
    now = ground.payloads()
    words.write_text("old")  # and what was recorded for the old text is what the old text gave
    assert "built " not in ground.good_build("slow")
    assert ground.payloads() == before != now
    ground.assert_clean()


def test_edits_all_the_time_never_put_a_wrong_blob_into_the_store(tmp_path: Path) -> None:
    """The file is written over in place, again and again, while it is taken in."""
    source = tmp_path / "source"
    texts = [bytes([letter]) * (4 << 20) for letter in b"ab"]
    source.write_bytes(texts[0])
    store = LocalStore(tmp_path / "cache")
    stop = threading.Event()

    def edit() -> None:
        while not stop.is_set():
            for text in texts:
                with open(source, "r+b") as file:
                    file.write(text)

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        taken = {store.add_file(source) for _ in range(40)}
    finally:
        stop.set()
        editor.join()
    for digest in taken:
        assert Digest.of_file(store.path(digest)) == digest
    assert list((tmp_path / "cache/tmp").iterdir()) == []


def test_a_file_that_changes_between_hashing_and_taking_in_is_named(ground: Ground) -> None:
    """A large file is appended to as long as the build runs."""
    log = ground.project / "warehouse/small/manual/part-0.md"
    stop = threading.Event()

    def append() -> None:
        while not stop.is_set():
            with open(log, "a") as file:
                file.write("One more.\n")

    writer = threading.Thread(target=append)
    writer.start()
    try:
        said = ground.bad_build()
    finally:
        stop.set()
        writer.join()
    assert "warehouse/small/manual/part-0.md was changed while it was being built from" in said
    assert "build again" in said
    ground.good_build()
    ground.assert_clean()


def test_a_file_that_goes_away_after_it_was_hashed_is_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("a")
    digests = DigestCache(tmp_path / "digests.json")
    action = Action("a", RunParams("a", "true", (), {}), {"source": SourceFile(str(source))})
    scratch = Scratch(tmp_path / "cache")
    digests = DigestCache(tmp_path / "digests.json")
    builder = Builder(
        Runner(LocalStore(tmp_path / "cache"), LocalActionCache(tmp_path / "cache"), LocalExecutor({}), scratch),
        [Graph("x", {"a": action}, ())],
        digests=lambda _flatpack: digests,
        versions=lambda _tool: "1",
        record=Record(tmp_path / "record.jsonl"),
    )
    os.utime(source, (1e9, 1e9))
    assert not builder.check("a")
    source.unlink()
    with pytest.raises(SourceError, match="source"):
        builder.run("a", Heard())
