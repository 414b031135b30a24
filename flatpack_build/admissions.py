"""Lets an action in when the pool has what it will need, judged by its inputs and by what it used last time."""

from __future__ import annotations

from pathlib import Path

from flatpack_build.action import Action
from flatpack_build.digest import ActionKey
from flatpack_build.last import Last, last_file, read_last
from flatpack_build.pools import Admission, Pool, needs
from flatpack_build.store.protocol import ActionCache


class Admissions:
    """``last`` is the folder of what was built last, ``cache`` has the results with the memory that they took."""

    def __init__(self, pool: Pool, last: Path, cache: ActionCache) -> None:
        self._pool = pool
        self._folder = last
        self._cache = cache
        self._last: dict[str, Last] = {}

    def admission(self, flatpack: str, action: Action, size: int) -> Admission:
        """For one run of ``action`` over inputs of ``size`` bytes together."""
        if flatpack not in self._last:
            self._last[flatpack] = read_last(last_file(self._folder, flatpack))
        peak = self._peak(self._last[flatpack].keys.get(action.name))
        return self._pool.admission(needs(action.params, size, self._pool.capacity, peak))

    def _peak(self, key: ActionKey | None) -> int:
        result = self._cache.get(key) if key else None
        return result.peak_memory if result else 0
