"""A look at many flatpacks that takes longer than one expects says how far it is. Knows neither doit nor what is looked at."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from flatpack_build.events import listening
from flatpack_build.views import View, view_for

_PATIENCE = 1.0  # seconds
_LOOKING = "looking for what has changed"


class LongLook:
    """A listener that draws nothing for ``patience`` seconds, then on ``view``; without one on standard error."""

    def __init__(self, view: View | None = None, *, patience: float = _PATIENCE) -> None:
        self._until = time.monotonic() + patience
        self._given = view
        self._view: View | None = None

    def progress(self, done: int, total: int | None, unit: str) -> None:
        if self._view is None:
            if time.monotonic() < self._until:
                return
            self._view = self._given or view_for(sys.stderr)
            self._view.start(_LOOKING)
        self._view.progress(_LOOKING, done, total, unit)

    def note(self, text: str) -> None:
        pass  # what a step finds worth saying, and none runs

    def close(self) -> None:
        """Take away what was drawn. More progress draws it again."""
        if self._view is not None:
            self._view.end(_LOOKING)
            if self._given is None:
                self._view.close()
            self._view = None


@contextlib.contextmanager
def long_look() -> Iterator[LongLook]:
    """What takes long inside, and reports progress, is drawn."""
    look = LongLook()
    try:
        with listening(look):
            yield look
    finally:
        look.close()
