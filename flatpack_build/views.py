"""Where the progress of a build is drawn: a live display on a terminal, plain lines elsewhere. Knows no builder."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from flatpack_build.terminal import TERMINAL

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PLAIN_INTERVAL = 5.0  # seconds between two plain lines about one action


def size_text(size: float) -> str:
    """Bytes as a person reads them, in powers of ten: ``92.3 MB``."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000 or unit == "GB":
            break
    return f"{size:.1f} {unit}"


def time_text(seconds: float) -> str:
    """``0.3 s``, ``2 min 5 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def amount_text(done: int, total: int | None, unit: str) -> str:
    if unit == "bytes":
        return f"{size_text(done)} of {size_text(total)}" if total else size_text(done)
    return f"{done} of {total} {unit}" if total else f"{done} {unit}"


class View(Protocol):
    """May be called from many threads."""

    def start(self, name: str) -> None: ...

    def progress(self, name: str, done: int, total: int | None, unit: str) -> None: ...

    def end(self, name: str) -> None: ...

    def line(self, text: str) -> None: ...

    def close(self) -> None: ...


class Row:
    """A listener that shows on ``view`` how far ``name`` is. What it notes is said with its result, and not here."""

    def __init__(self, view: View, name: str) -> None:
        self._view = view
        self._name = name

    def progress(self, done: int, total: int | None, unit: str) -> None:
        self._view.progress(self._name, done, total, unit)

    def note(self, text: str) -> None:
        pass


class PlainView:
    """Lines without control characters; for anything that takes long, one every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._mutex = threading.Lock()
        self._said: dict[str, float] = {}

    def start(self, name: str) -> None:
        self._said[name] = time.monotonic()

    def progress(self, name: str, done: int, total: int | None, unit: str) -> None:
        now = time.monotonic()
        if now - self._said.get(name, now) >= _PLAIN_INTERVAL:
            self._said[name] = now
            self.line(f"  ...      {name}: {amount_text(done, total, unit)}")

    def end(self, name: str) -> None:
        self._said.pop(name, None)

    def line(self, text: str) -> None:
        with self._mutex:
            self._stream.write(text + "\n")
            self._stream.flush()

    def close(self) -> None:
        pass


class LiveView:
    """One moving line for each running action, below the lines that have been said. Loads rich when it first draws.

    While a person is asked something, nothing is drawn, and lines wait.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._mutex = threading.Lock()
        self._progress: Progress | None = None
        self._rows: dict[str, TaskID] = {}
        self._waiting: list[str] | None = None
        """Lines that are held back; ``None``: none are, somebody may look."""

    def _display(self) -> Progress:
        if self._progress is None:
            from rich.console import Console  # heavy, and needless when there is nothing to do
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[amount]}"),
                TimeElapsedColumn(),
                console=Console(file=self._stream),
                transient=True,
            )
            if self._waiting is None:
                self._progress.start()
        return self._progress

    def start(self, name: str) -> None:
        with self._mutex:
            self._rows[name] = self._display().add_task(name, total=None, amount="")

    def progress(self, name: str, done: int, total: int | None, unit: str) -> None:
        with self._mutex:
            if name in self._rows:
                amount = amount_text(done, total, unit)
                self._display().update(self._rows[name], completed=done, total=total, amount=amount)

    def end(self, name: str) -> None:
        with self._mutex:
            if name in self._rows:
                self._display().remove_task(self._rows.pop(name))

    def line(self, text: str) -> None:
        with self._mutex:
            if self._waiting is not None:
                self._waiting.append(text)
                return
        self._say(text)

    def _say(self, text: str) -> None:
        if self._progress is None:
            self._stream.write(text + "\n")
            self._stream.flush()
        else:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def pause(self) -> None:
        with self._mutex:
            self._waiting = []
            if self._progress is not None:
                self._progress.stop()

    def resume(self) -> None:
        with self._mutex:
            lines, self._waiting = self._waiting or [], None
            if self._progress is not None:
                self._progress.start()
        for line in lines:
            self._say(line)

    def close(self) -> None:
        TERMINAL.shows_no_more(self)
        if self._waiting:
            self.resume()
        if self._progress is not None:
            self._progress.stop()


def view_for(stream: TextIO) -> View:
    """Live where a person looks, plain where a program reads."""
    if not stream.isatty():
        return PlainView(stream)
    view = LiveView(stream)
    TERMINAL.shows(view)
    return view
