"""The pool under many threads: never more than there is, everybody served, nobody overtaken; and what steps ask for."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.machine import MB, Capacity
from flatpack_build.params import CompressParams, FetchParams, IndexParams, PackParams, RunParams, VerifyParams
from flatpack_build.pools import Needs, Pool, needs

MACHINE = Capacity(4, 1000)


class Meter:
    """Adds up what is in use, and remembers the most."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.now = (0, 0)
        self.most = (0, 0)
        self.alone: list[bool] = []
        self.running = 0

    def add(self, wanted: Needs, sign: int) -> None:
        with self._mutex:
            self.running += sign
            self.now = (self.now[0] + sign * wanted.cores, self.now[1] + sign * wanted.memory)
            self.most = (max(self.most[0], self.now[0]), max(self.most[1], self.now[1]))
            if sign > 0:
                self.alone.append(self.running == 1)


def run_all(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=item, daemon=True) for item in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "somebody was never served"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1000)), min_size=1, max_size=40))
def test_never_more_than_there_is_and_everybody_is_served(wishes: list[tuple[int, int]]) -> None:
    pool, meter = Pool(MACHINE), Meter()

    def work(wanted: Needs) -> None:
        with pool.admission(wanted):
            meter.add(wanted, 1)
            time.sleep(0.0005)
            meter.add(wanted, -1)

    run_all([lambda wish=wish: work(Needs(*wish)) for wish in wishes])  # type: ignore[misc]  # bound in the loop
    assert meter.most[0] <= MACHINE.cores
    assert meter.most[1] <= MACHINE.memory
    with pool.admission(Needs(MACHINE.cores, MACHINE.memory)) as all_of_it:  # everything was given back
        assert all_of_it.note == ""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def queue_up(pool: Pool, *wishes: Needs) -> tuple[list[int], list[threading.Thread]]:
    """Threads that ask one after another, and the order in which they were served."""
    served: list[int] = []
    threads = []

    def ask(number: int, wanted: Needs) -> None:
        with pool.admission(wanted):
            served.append(number)
            time.sleep(0.02)

    for number, wanted in enumerate(wishes):
        thread = threading.Thread(target=ask, args=(number, wanted), daemon=True)
        thread.start()
        threads.append(thread)
        wait_for(lambda asked=number + 1: len(pool._queue) == asked)  # type: ignore[misc]  # bound in the loop
    return served, threads


def test_a_big_one_is_not_overtaken_by_small_ones_that_would_fit() -> None:
    pool = Pool(MACHINE)
    with pool.admission(Needs(1, 0)):
        served, threads = queue_up(pool, Needs(4, 0), *[Needs(1, 0)] * 5)
        assert served == []
    for thread in threads:
        thread.join(10)
    assert served[0] == 0
    assert sorted(served) == [0, 1, 2, 3, 4, 5]


def test_a_stream_of_small_ones_does_not_starve_a_big_one() -> None:
    pool, stop = Pool(MACHINE), threading.Event()

    def stream() -> None:
        while not stop.is_set():
            with pool.admission(Needs(1, 100)):
                time.sleep(0.001)

    threads = [threading.Thread(target=stream, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    done = threading.Event()

    def big() -> None:
        for _ in range(5):
            with pool.admission(Needs(4, 1000)):
                pass
        done.set()

    threading.Thread(target=big, daemon=True).start()
    try:
        assert done.wait(20)
    finally:
        stop.set()


def test_what_takes_nothing_never_waits() -> None:
    pool = Pool(MACHINE)
    with pool.admission(Needs(4, 1000)), pool.admission(Needs(0, 0)) as free:
        assert free.waited == 0


def test_waiting_is_measured() -> None:
    pool = Pool(MACHINE)
    waited: list[float] = []

    def ask() -> None:
        with pool.admission(Needs(1, 0)) as admission:
            waited.append(admission.waited)

    with pool.admission(Needs(4, 0)):
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.2)
    thread.join(10)
    assert 0.1 < waited[0] < 5


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Needs(1, 2_000_000_000), "it may need 2.0 GB of memory, and there are 50 MB for builds: it ran alone"),
        (Needs(64, 0), "it asks for 64 cores, and there are 4 for builds: it ran alone"),
    ],
)
def test_one_that_is_larger_than_the_machine_runs_alone_and_says_so(wanted: Needs, words: str) -> None:
    pool, meter = Pool(Capacity(4, 50 * MB)), Meter()
    notes = []

    def small() -> None:
        with pool.admission(Needs(1, MB)):
            meter.add(Needs(1, MB), 1)
            time.sleep(0.005)
            meter.add(Needs(1, MB), -1)

    def large() -> None:
        with pool.admission(wanted) as admission:
            notes.append(admission.note)
            meter.add(wanted, 1)
            alone = meter.running == 1
            time.sleep(0.05)
            assert alone
            alone = meter.running == 1
            meter.add(wanted, -1)
            notes.append(str(alone))

    run_all([small, small, large, small, small, small])
    assert notes == [words, "True"]


def test_a_failure_gives_back_what_it_took() -> None:
    pool = Pool(MACHINE)
    for _ in range(3):
        with pytest.raises(ValueError, match="oops"), pool.admission(Needs(4, 1000)):
            raise ValueError("oops")


class GivenUpError(Exception):
    """What Ctrl-C is to the thread that waits."""


def test_one_that_gives_up_waiting_lets_the_next_through() -> None:
    def give_up(_number: int, _frame: object) -> None:
        raise GivenUpError

    def interrupt() -> None:
        wait_for(lambda: len(pool._queue) == 1)
        threading.Thread(target=patient, daemon=True).start()
        wait_for(lambda: len(pool._queue) == 2)
        os.kill(os.getpid(), signal.SIGUSR1)

    def patient() -> None:
        with pool.admission(Needs(1, 0)):
            served.set()

    pool = Pool(MACHINE)
    served = threading.Event()
    before = signal.signal(signal.SIGUSR1, give_up)
    try:
        with pool.admission(Needs(1, 0)):
            threading.Thread(target=interrupt, daemon=True).start()
            with pytest.raises(GivenUpError), pool.admission(Needs(4, 0)):
                pass
            assert served.wait(10)
    finally:
        signal.signal(signal.SIGUSR1, before)


# --- what steps ask for

BIG = Capacity(8, 16_000 * MB)


def test_what_steps_ask_for() -> None:
    assert needs(FetchParams("https://example.org/x", {}, {}), 10**9, BIG) == Needs(0, 0)
    assert needs(VerifyParams("x", "0", "any"), 10**9, BIG) == Needs(1, 0)
    quantise = needs(CompressParams("Q4_0"), 4 * 10**9, BIG)
    assert quantise.cores == 8
    assert 4 * 10**9 < quantise.memory < 5 * 10**9
    assert needs(IndexParams(), 100, BIG).cores == 1
    pack = PackParams("x", "1", "pi5", {}, "{}")
    assert needs(pack, 100, BIG).cores == 2
    assert needs(pack, 100, Capacity(1, 10**9)).cores == 1


def test_a_declared_step_asks_for_what_it_declares() -> None:
    assert needs(RunParams("x", "true", ("a",), {}), 10**9, BIG) == Needs(1, 0)
    assert needs(RunParams("x", "true", ("a",), {}, cores=16, memory_mb=500), 0, BIG) == Needs(16, 500 * MB)


def test_what_was_seen_counts_more_than_what_is_guessed() -> None:
    assert needs(CompressParams("Q4_0"), 10**9, BIG, peak=2 * 10**9) == Needs(8, 2_400_000_000)
    assert needs(CompressParams("Q4_0"), 10**10, BIG, peak=2 * 10**9) == Needs(8, 10**10)  # another model by now
    assert needs(IndexParams(), 10, BIG, peak=100 * MB).memory == 120 * MB
