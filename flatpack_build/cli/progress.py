"""How far a command is with something large, on standard error. What is done within a moment shows nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import click

from flatpack_build import events
from flatpack_build.views import View, view_for

_PATIENCE = 0.5  # seconds: below that a display only flickers, and loading it takes longer than the work


class _Listener:
    def __init__(self, name: str, patience: float) -> None:
        self._name = name
        self._patience = patience
        self._began = time.monotonic()
        self._view: View | None = None

    def progress(self, done: int, total: int | None, unit: str) -> None:
        if self._view is None:
            if time.monotonic() - self._began < self._patience:
                return
            self._view = view_for(sys.stderr)
            self._view.start(self._name)
        self._view.progress(self._name, done, total, unit)

    def note(self, text: str) -> None:
        if self._view is not None:
            self._view.line(f"note: {text}")
        else:
            click.echo(f"note: {text}", err=True)

    def close(self) -> None:
        if self._view is not None:
            self._view.end(self._name)
            self._view.close()


@contextlib.contextmanager
def showing(name: str, *, patience: float = _PATIENCE) -> Iterator[None]:
    """Show the progress of what happens inside under this name, after ``patience`` seconds; notes are shown, too."""
    listener = _Listener(name, patience)
    try:
        with events.listening(listener):
            yield
    finally:
        listener.close()
