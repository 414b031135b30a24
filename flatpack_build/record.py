"""The record of a build: one JSON line for each action, in the order in which they ended. Knows no terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path

from flatpack_build.digest import Json
from flatpack_build.errors import StoreError
from flatpack_build.fingerprint import InputDigest
from flatpack_build.fs import remedy
from flatpack_build.runner import Ran


class Record:
    """Appends to ``path``, which is emptied when the first action of this build ends; a build of nothing leaves it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._started = False

    def add(self, action: str, step: str, inputs: Mapping[str, InputDigest], ran: Ran) -> None:
        result = ran.result
        line: dict[str, Json] = {
            "action": action,
            "step": step,
            "key": result.key,
            "state": ran.state,
            "seconds": round(ran.seconds, 4),
            "step_seconds": result.seconds,
            "peak_memory": result.peak_memory,
            "inputs": {name: f"{source.kind}:{source.digest}" for name, source in inputs.items()},
            "output": result.tree,
            "size": result.size,
            "notes": list(result.notes),
        }
        with self._mutex:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with open(self._path, "a" if self._started else "w", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise StoreError(
                    f"cannot write the record of the build, {self._path}: {error.strerror}",
                    hint=remedy(error, self._path.parent),
                ) from error
            self._started = True
