"""Builders with pools: what runs at once stays within the pool, and locks, healing and pools never wait in a circle."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from flatpack_build.action import Action, Output
from flatpack_build.admissions import Admissions
from flatpack_build.builder import Builder
from flatpack_build.events import Listener
from flatpack_build.executor.protocol import Execution, Job
from flatpack_build.graph import Graph, in_order
from flatpack_build.machine import MB, Capacity
from flatpack_build.params import IndexParams, RunParams
from flatpack_build.pools import Needs, Pool
from flatpack_build.record import Record
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from tests.heard import Heard


class Slow:
    """An executor that takes its time, and notes how much memory was declared by those that run at once."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._now = 0
        self.most = 0
        self.ran: list[str] = []

    def run(self, job: Job, listener: Listener) -> Execution:
        memory = job.params.memory_mb if isinstance(job.params, RunParams) else 0
        with self._mutex:
            self._now += memory
            self.most = max(self.most, self._now)
            self.ran.append(job.name)
        time.sleep(0.01)
        (job.out / "result").write_text(job.params.command if isinstance(job.params, RunParams) else "")
        with self._mutex:
            self._now -= memory
        return Execution(0.01, 5 * MB, ())


def builder(root: Path, cache: Path, actions: list[Action], executor: Slow, pool: Pool) -> Builder:
    digests = DigestCache(root / "digests.json")
    return Builder(
        Runner(LocalStore(cache), LocalActionCache(cache), executor, Scratch(cache)),
        [Graph("x", in_order("x", actions), ())],
        digests=lambda _flatpack: digests,
        versions=lambda _tool: "1",
        record=Record(root / "record.jsonl"),
        admissions=Admissions(pool, root / "last", LocalActionCache(cache)),
    )


def actions(count: int, memory_mb: int, **inputs: Output) -> list[Action]:
    return [
        Action(f"n{number}", RunParams(f"n{number}", f"say {number}", ("result",), {}, memory_mb=memory_mb), inputs)
        for number in range(count)
    ]


def run(builder: Builder, names: list[str], threads: int) -> list[threading.Thread]:
    """Start ``threads`` that run the named actions between them."""
    waiting = list(reversed(names))

    def work() -> None:
        while waiting:
            try:
                name = waiting.pop()
            except IndexError:
                return
            builder.run(name, Heard())

    started = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    return started


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "they wait for each other"


@pytest.mark.parametrize(("memory", "most"), [(1000, 900), (300, 300), (100, 300)])
def test_what_runs_at_once_fits(tmp_path: Path, memory: int, most: int) -> None:
    executor = Slow()
    built = builder(tmp_path, tmp_path / "cache", actions(12, 300), executor, Pool(Capacity(6, memory * MB)))
    join(run(built, [f"n{number}" for number in range(12)], 6))
    assert executor.most == most
    assert len(built.outcomes) == 12
    alone = [outcome for outcome in built.outcomes.values() if "alone" in "".join(outcome.result.notes)]
    assert len(alone) == (12 if memory == 100 else 0)


def test_what_is_in_the_cache_does_not_wait(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    builder(tmp_path, cache, actions(1, 10), Slow(), Pool(Capacity(1, 100 * MB))).run("n0", Heard())
    pool = Pool(Capacity(1, 100 * MB))
    again = builder(tmp_path, cache, actions(1, 10), Slow(), pool)
    with pool.admission(Needs(1, 0)):
        join(run(again, ["n0"], 1))
    assert again.outcomes["n0"].state == "cached"


def test_two_builds_over_one_cache_in_opposite_orders(tmp_path: Path) -> None:
    """Each action is locked by whoever comes first, and each build can run only one at a time."""
    cache, executor = tmp_path / "cache", Slow()
    names = [f"n{number}" for number in range(12)]
    threads = []
    for order in (names, names[::-1]):
        (tmp_path / order[0]).mkdir()
        built = builder(tmp_path / order[0], cache, actions(12, 10), executor, Pool(Capacity(1, 10 * MB)))
        threads += run(built, order, 4)
    join(threads)
    assert sorted(executor.ran) == sorted(names)


def test_healing_waits_for_no_one_who_waits_for_it(tmp_path: Path) -> None:
    """An output that was lost is made again while every other thread waits for the only core."""
    cache, executor = tmp_path / "cache", Slow()
    base = Action("base", RunParams("base", "base", ("result",), {}), {})
    graph = [base, *actions(8, 0, first=Output("base", "result"))]
    built = builder(tmp_path, cache, graph, executor, Pool(Capacity(1, 100 * MB)))
    built.run("base", Heard())
    for blob in (cache / "blobs").rglob("*"):
        if blob.is_file() and blob.read_bytes() == b"base":
            blob.unlink()
    join(run(built, [f"n{number}" for number in range(8)], 8))
    assert len(built.outcomes) == 9
    assert executor.ran.count("base") == 2


def test_what_was_seen_last_time_counts(tmp_path: Path) -> None:
    """Twelve of them would fit, going by the guess. The first run tells better."""
    cache, pool = tmp_path / "cache", Pool(Capacity(4, 100 * MB))
    graph = [Action("index", IndexParams(), {})]
    built = builder(tmp_path, cache, graph, Slow(), pool)
    admissions = Admissions(pool, tmp_path / "last", LocalActionCache(cache))
    assert "it may need 256 MB" in admissions.admission("x", graph[0], 0).note
    built.run("index", Heard())
    built.keep_last(tmp_path / "last")
    again = Admissions(pool, tmp_path / "last", LocalActionCache(cache))
    assert again.admission("x", graph[0], 0).taken == Needs(1, 6 * MB)
