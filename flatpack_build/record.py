"""The record of a build: one JSON line for each action, in the order in which they ended. Knows no terminal and no doit.

Each build has a file of its own in ``records/`` beside ``latest``, so two builds at once cannot mix theirs; ``latest``
becomes that of the build that ended last. A record is a log: where it cannot be written the build goes on, and
``trouble`` says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from flatpack_build.digest import ActionKey, Json
from flatpack_build.fingerprint import action_key
from flatpack_build.fs import replace_with_link
from flatpack_build.store.protocol import ActionResult

LineState: TypeAlias = Literal["built", "cached", "up to date", "failed", "not run"]

_KEPT = 50
_MOST_BYTES = 100_000_000  # of all kept records: those of a warehouse with thousands of flatpacks are long
_INPUT = "input "


@dataclass(frozen=True)
class ActionLine:
    """How one action ended. What is not known (the key of an action that was not run) is ``None`` or empty.

    ``seconds`` is wall time spent on it in this build, ``step_seconds`` what its step took when it ran, now or earlier;
    ``peak_memory`` and ``size`` are in bytes; ``inputs`` maps a name to ``file:<sha256>`` or ``tree:<sha256>``;
    ``output`` is the digest of the output tree; ``executor`` says where the step ran. ``error`` is the whole text of a
    failure, ``error_type`` its kind; of an action that was not run, ``error`` says why.
    """

    action: str
    step: str
    state: LineState
    key: ActionKey | None = None
    seconds: float = 0.0
    step_seconds: float = 0.0
    peak_memory: int = 0
    inputs: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    size: int = 0
    notes: Sequence[str] = ()
    executor: str = ""
    error: str = ""
    error_type: str = ""

    @classmethod
    def of_result(cls, action: str, state: LineState, seconds: float, result: ActionResult) -> ActionLine:
        return cls(
            action=action,
            step=result.step,
            state=state,
            key=result.key,
            seconds=round(seconds, 4),
            step_seconds=result.seconds,
            peak_memory=result.peak_memory,
            inputs=_inputs(result.parts),
            output=result.tree,
            size=result.size,
            notes=result.notes,
            executor=result.executor,
        )

    @classmethod
    def of_failure(
        cls, action: str, step: str, seconds: float, error: Exception, parts: list[tuple[str, Json]] | None
    ) -> ActionLine:
        """``parts`` are those of its key, where it came as far as that."""
        kind = type(error).__name__
        return cls(
            action=action,
            step=step,
            state="failed",
            key=action_key(parts) if parts else None,
            seconds=round(seconds, 4),
            inputs=_inputs(parts or ()),
            error=str(error) or kind,
            error_type=kind,
        )

    def encode(self) -> bytes:
        """One line of JSON."""
        return (json.dumps(_fields(self)) + "\n").encode()


def _inputs(parts: Iterable[tuple[str, Json]]) -> dict[str, str]:
    return {name[len(_INPUT) :]: str(value) for name, value in parts if name.startswith(_INPUT)}


def _fields(line: ActionLine) -> dict[str, object]:
    # dataclasses.asdict copies deeply, which a no-op of twenty thousand actions would feel.
    return {name: getattr(line, name) for name in _NAMES}


_NAMES = [item.name for item in dataclasses.fields(ActionLine)]


class Record:
    """Written as the build goes; a build in which nothing ends leaves no file. May be used from many threads."""

    def __init__(
        self,
        latest: Path,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        kept: int = _KEPT,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._latest = latest
        self._folder = latest.parent / "records"
        self._clock = clock
        self._kept = kept
        self._most_bytes = most_bytes
        self._mutex = threading.Lock()
        self._good = 0
        self._closed = False
        self.path: Path | None = None
        """The file of this build; ``None`` as long as there is none."""
        self.lines: dict[str, ActionLine] = {}
        """The last line of each action that ended so far, by its name."""
        self.trouble = ""
        """Why the record is not complete; empty when it is."""

    def add(self, line: ActionLine) -> None:
        """An action has ended."""
        with self._mutex:
            self.lines.pop(line.action, None)
            self.lines[line.action] = line
            self._append(line.encode())

    def close(self, rest: Iterable[ActionLine] = (), *, always: bool = False) -> None:
        """End the record with ``rest``, what needed nothing or was not reached. ``always``: even if nothing else was
        written."""
        with self._mutex:
            if self._closed or (self.path is None and not always):
                return
            self._append(b"".join(line.encode() for line in rest))
            self._closed = True
            if self.path is not None:
                self._make_latest(self.path)
                self._prune()

    def _append(self, data: bytes) -> None:
        if self.trouble or self._closed:
            return
        try:
            if self.path is None:
                self.path = self._new_file()
            with open(self.path, "ab") as file:
                file.write(data)
            self._good += len(data)
        except OSError as error:
            self._fail(error)
            if self.path is not None:
                with contextlib.suppress(OSError):
                    os.truncate(self.path, self._good)  # no half line for a program to stumble over

    def _new_file(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        base = f"{_stamp(self._clock())}-{os.getpid()}"
        for attempt in range(1000):
            path = self._folder / (f"{base}-{attempt}.jsonl" if attempt else f"{base}.jsonl")
            # Taken already: by a clock set back and a process number that came again, or from another container.
            with contextlib.suppress(FileExistsError):
                path.touch(0o644, exist_ok=False)
                return path
        raise FileExistsError(errno.EEXIST, "every name for it is taken", os.fspath(self._folder))

    def _make_latest(self, path: Path) -> None:
        try:
            replace_with_link(path, self._latest, mode=0o644)
        except OSError as error:
            self._fail(error)

    def _prune(self) -> None:
        """Keep the newest. Where the clock was set back, records "from the future" count as the oldest."""
        assert self.path is not None, "called for a record that exists"
        now = _stamp(self._clock())
        try:
            names = sorted(entry.name for entry in self._folder.iterdir())
        except OSError:
            return
        others = [name for name in reversed(names) if name.endswith(".jsonl") and name != self.path.name]
        newest_first = [name for name in others if name <= now] + [name for name in others if name > now]
        total, kept = self._good, 1
        doomed = []
        for name in newest_first:
            with contextlib.suppress(OSError):
                total += os.stat(self._folder / name).st_size
            kept += 1
            if kept > self._kept or total > self._most_bytes:
                doomed.append(name)
        for name in doomed:
            with contextlib.suppress(OSError):  # gone already, or a folder that cannot be written to
                os.unlink(self._folder / name)

    def _fail(self, error: OSError) -> None:
        where = self.path or self._folder
        self.trouble = self.trouble or (
            f"the record of this build is not complete: cannot write {where}: {error.strerror or error}"
        )


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
