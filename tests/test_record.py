"""The record: whole lines whatever happens, a file for each build, and no trust in the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flatpack_build.digest import ActionKey, Digest
from flatpack_build.errors import StepError
from flatpack_build.record import ActionLine, Record
from flatpack_build.store.protocol import ActionResult

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)


def lines(file: Path) -> list[str]:
    return [json.loads(line)["action"] for line in file.read_text().splitlines()]


def build(latest: Path, now: datetime, *actions: str, kept: int = 3) -> Path:
    record = Record(latest, clock=lambda: now, kept=kept)
    for action in actions:
        record.add(ActionLine(action, "run", "built"))
    record.close()
    assert record.trouble == ""
    assert record.path is not None
    return record.path


def test_a_line_holds_what_is_known() -> None:
    parts = (("step", "run"), ("input files", "tree:ab"), ("input build x", "file:cd"))
    result = ActionResult(
        ActionKey("a" * 64), "run:x", "run", Digest("b" * 64), 12, 1.5, 7, ("a note",), parts, "local, staged"
    )
    line = json.loads(ActionLine.of_result("run:y", "built", 2.123456, result).encode())
    assert line == {
        "action": "run:y", "step": "run", "state": "built", "key": "a" * 64, "seconds": 2.1235, "step_seconds": 1.5,
        "peak_memory": 7, "inputs": {"files": "tree:ab", "build x": "file:cd"}, "output": "b" * 64, "size": 12,
        "notes": ["a note"], "executor": "local, staged", "error": "", "error_type": "",
    }  # fmt: skip
    failed = json.loads(ActionLine.of_failure("run:y", "run", 1, StepError("no", hint="do"), list(parts)).encode())
    assert (failed["error"], failed["error_type"], failed["state"]) == ("no\n  hint: do", "StepError", "failed")
    assert failed["inputs"] == {"files": "tree:ab", "build x": "file:cd"}
    assert len(failed["key"]) == 64


def test_a_build_of_nothing_leaves_no_file(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl")
    record.close([ActionLine("run:x", "run", "up to date")])
    assert list(tmp_path.iterdir()) == []
    record = Record(tmp_path / "record.jsonl")
    record.close([ActionLine("run:x", "run", "up to date")], always=True)
    assert lines(tmp_path / "record.jsonl") == ["run:x"]


def test_each_build_has_its_own_and_the_latest_is_the_last_that_ended(tmp_path: Path) -> None:
    latest = tmp_path / "record.jsonl"
    first, second = Record(latest), Record(latest)
    first.add(ActionLine("a", "run", "built"))
    second.add(ActionLine("b", "run", "built"))
    first.add(ActionLine("c", "run", "built"))
    second.close()
    assert lines(latest) == ["b"]
    first.close([ActionLine("d", "run", "not run")])
    assert lines(latest) == ["a", "c", "d"]
    assert sorted(lines(path) for path in (tmp_path / "records").iterdir()) == [["a", "c", "d"], ["b"]]


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl")

    def add(number: int) -> None:
        for item in range(50):
            record.add(ActionLine(f"{number}-{item}", "run", "built", notes=["x" * 2000]))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record.close()
    assert len(set(lines(tmp_path / "record.jsonl"))) == 400


def test_what_comes_after_the_end_is_left_out(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl")
    record.add(ActionLine("a", "run", "built"))
    record.close()
    record.add(ActionLine("late", "run", "built"))  # a thread that an interrupt did not stop
    record.close()
    assert lines(tmp_path / "record.jsonl") == ["a"]


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    paths = [build(tmp_path / "record.jsonl", NOON + timedelta(seconds=n), str(n)) for n in range(6)]
    assert [path.exists() for path in paths] == [False] * 3 + [True] * 3


def test_long_records_are_kept_up_to_a_size(tmp_path: Path) -> None:
    for number in range(6):
        record = Record(tmp_path / "record.jsonl", most_bytes=250_000)
        record.add(ActionLine(str(number), "run", "built", notes=["x" * 100_000]))
        record.close()
    assert len(list((tmp_path / "records").iterdir())) == 2


def test_a_clock_that_jumps_backwards_loses_no_new_record(tmp_path: Path) -> None:
    latest = tmp_path / "record.jsonl"
    for number in range(3):
        build(latest, NOON + timedelta(seconds=number), f"before {number}")
    for number in range(3):  # a year earlier: by name they are the oldest of all
        path = build(latest, NOON - timedelta(days=365 - number), f"after {number}")
        assert lines(latest) == lines(path) == [f"after {number}"]
    assert sorted(lines(path)[0] for path in (tmp_path / "records").iterdir()) == ["after 0", "after 1", "after 2"]


def test_a_clock_that_stands_still_gives_each_build_its_own(tmp_path: Path) -> None:
    paths = {build(tmp_path / "record.jsonl", NOON, str(number)) for number in range(3)}
    assert len(paths) == 3
    assert sorted(lines(path)[0] for path in paths) == ["0", "1", "2"]


def test_what_a_killed_build_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records/.latest-20200101T000000.000000Z-1.jsonl").write_text("")
    build(tmp_path / "record.jsonl", NOON, "a")
    assert [path.name[0] for path in (tmp_path / "records").iterdir()] == ["2"]


FULL = """
import resource, sys
from pathlib import Path
from flatpack_build.record import ActionLine, Record
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
record = Record(Path(sys.argv[1]))
for number in range(10):
    record.add(ActionLine(str(number), "run", "built"))
record.close([ActionLine("end", "run", "not run")])
print(record.trouble)
"""


def test_a_file_that_cannot_grow_keeps_whole_lines(tmp_path: Path) -> None:
    latest = tmp_path / "record.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, str(latest)], capture_output=True, text=True, check=True)
    assert "the record of this build is not complete" in done.stdout
    assert "File too large" in done.stdout
    assert latest.stat().st_size <= 1000
    found = lines(latest)
    assert found == [str(number) for number in range(len(found))]
    assert 2 <= len(found) < 10


@pytest.mark.parametrize("place", ["build", "build/records", "build/record.jsonl"])
def test_where_nothing_can_be_written_it_says_so_and_raises_nothing(tmp_path: Path, place: str) -> None:
    if place == "build/record.jsonl":
        (tmp_path / place).mkdir(parents=True)
    else:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("in the way")
    record = Record(tmp_path / "build/record.jsonl")
    record.add(ActionLine("a", "run", "built"))
    record.close()
    assert "the record of this build is not complete: cannot write" in record.trouble
    assert list(record.lines) == ["a"]  # reports do not depend on the file


def test_the_last_line_of_an_action_counts(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl")
    for state in ("cached", "failed"):
        record.add(ActionLine("a", "run", state))
    assert record.lines["a"].state == "failed"


def test_no_file_is_held_open(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    records = [Record(tmp_path / f"{number}/record.jsonl") for number in range(50)]
    for record in records:
        record.add(ActionLine("a", "run", "built"))
    assert len(os.listdir("/dev/fd")) <= before + 5
