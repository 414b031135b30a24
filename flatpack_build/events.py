"""How a step says how far it is and what is worth knowing. Sees no terminal: whoever runs the step listens, or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final, Protocol

from flatpack_build.plain import printable


class Listener(Protocol):
    """Receives what a running step reports."""

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """``done`` of ``total`` (``None`` when unknown), in ``unit``: ``bytes`` or a plural noun."""

    def note(self, text: str) -> None:
        """One sentence that belongs in the build record and before the user's eyes."""


class _Nobody:
    def progress(self, done: int, total: int | None, unit: str) -> None: ...

    def note(self, text: str) -> None: ...


NOBODY: Final[Listener] = _Nobody()
"""Hears nothing."""

_listener: ContextVar[Listener] = ContextVar("listener", default=NOBODY)


def progress(done: int, total: int | None, unit: str = "bytes") -> None:
    """Report progress. Cheap enough for every megabyte; call it no more than some hundred times a second."""
    _listener.get().progress(done, total, unit)


def note(text: str) -> None:
    """Report a fact about this run: a requantisation, a fallback, the sandbox that was used. It may quote a stranger."""
    _listener.get().note(printable(text))


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send what happens inside to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
