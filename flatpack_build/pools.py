"""Cores and memory of this machine, and who may have them next. Knows threads; no graph, no step's code, no terminal.

``Pool`` hands out in the order of asking: nothing overtakes, so a big request is never starved by small ones. It covers
one build. Two builds at once on one machine do not know of each other's pools.

Where it is asked: inside the lock of an action, just before its step runs (``Runner.run``). So an action that is found in
the cache takes nothing, and nobody holds a part of the pool while waiting for another build to finish that very action.
There is no way into a deadlock: locks are taken in the order healing, action, pool, and whoever holds a part of the
pool runs a step and waits for none of these.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from flatpack_build.machine import MB, Capacity
from flatpack_build.params import Params, RunParams

_MARGIN = 256 * MB
"""What Python and a native library need before they see any data."""
_GROWTH = 1.2
"""How much more than last time a step may need."""


@dataclass(frozen=True)
class Needs:
    """What one action takes while it runs: cores, and memory in bytes. Nothing at all: it never waits."""

    cores: int
    memory: int


def needs(params: Params, size: int, machine: Capacity, peak: int = 0) -> Needs:
    """An estimate for a step over inputs of ``size`` bytes. ``peak``: the most memory it was seen to use, in bytes.

    Nothing of this is part of the action key.
    """
    if isinstance(params, RunParams):
        return Needs(params.cores or 1, params.memory_mb * MB)
    if params.step == "fetch":  # it waits for others' machines, not for this one
        return Needs(0, 0)
    memory = int(_GROWTH * peak)
    if params.step in ("compress", "convert"):  # llama.cpp maps the whole model, and works with all threads
        return Needs(machine.cores, max(memory, size) if memory else size + _MARGIN)
    if params.isolated:
        return Needs(min(2 if params.step == "pack" else 1, machine.cores), memory or _MARGIN)
    return Needs(1, 0)


class Pool:
    """A machine's cores and memory, lent to many threads. Never more than there is, but to one that asks for more."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self._free = capacity
        self._queue: deque[Admission] = deque()
        self._changed = threading.Condition()

    def admission(self, wanted: Needs) -> Admission:
        """A context to run in: entering it waits until ``wanted`` is free and all who asked before were served."""
        return Admission(self, wanted)

    def _enter(self, admission: Admission) -> None:
        taken = admission.taken
        with self._changed:
            self._queue.append(admission)
            try:
                self._changed.wait_for(
                    lambda: (
                        self._queue[0] is admission
                        and taken.cores <= self._free.cores
                        and taken.memory <= self._free.memory
                    )
                )
                self._free = Capacity(self._free.cores - taken.cores, self._free.memory - taken.memory)
            finally:  # also when Ctrl-C ends the wait
                self._queue.remove(admission)
                self._changed.notify_all()

    def _leave(self, taken: Needs) -> None:
        with self._changed:
            self._free = Capacity(self._free.cores + taken.cores, self._free.memory + taken.memory)
            self._changed.notify_all()


class Admission:
    """One use of a part of a pool. ``waited`` is in seconds; ``note`` says when it was more than the machine has."""

    def __init__(self, pool: Pool, wanted: Needs) -> None:
        self._pool = pool
        self.waited = 0.0
        self.note = _too_much(wanted, pool.capacity)
        everything = Needs(pool.capacity.cores, pool.capacity.memory)
        self.taken = everything if self.note else wanted

    def __enter__(self) -> Admission:
        if self.taken.cores or self.taken.memory:
            start = time.monotonic()
            self._pool._enter(self)
            self.waited = time.monotonic() - start
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.taken.cores or self.taken.memory:
            self._pool._leave(self.taken)


def _too_much(wanted: Needs, capacity: Capacity) -> str:
    if wanted.memory > capacity.memory:
        return (
            f"it may need {_size_text(wanted.memory)} of memory, and there are {_size_text(capacity.memory)} for builds: "
            "it ran alone"
        )
    if wanted.cores > capacity.cores:
        return f"it asks for {wanted.cores} cores, and there are {capacity.cores} for builds: it ran alone"
    return ""


def _size_text(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / MB:.0f} MB"
