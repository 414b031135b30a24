"""Whose turn it is on this process's terminal: what moves there gives way while a person is asked.

Knows neither the displays nor the questions.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol


class Display(Protocol):
    """Something that redraws itself. May be called from any thread."""

    def pause(self) -> None:
        """Take everything off the terminal, and leave it alone from now on."""

    def resume(self) -> None:
        """Draw again."""


class Terminal:
    """There is one for each process: ``TERMINAL``."""

    def __init__(self) -> None:
        self._one_question = threading.Lock()
        self._mutex = threading.Lock()
        self._displays: list[Display] = []
        self._asking = False

    def shows(self, display: Display) -> None:
        """From now on ``display`` is asked to give way; at once, where somebody is asking."""
        with self._mutex:
            self._displays.append(display)
            if self._asking:
                display.pause()

    def shows_no_more(self, display: Display) -> None:
        with self._mutex:
            if display in self._displays:
                self._displays.remove(display)

    @contextlib.contextmanager
    def to_ask(self) -> Iterator[None]:
        """Nothing moves inside; one question at a time."""
        with self._one_question:
            self._all(asking=True)
            try:
                yield
            finally:
                self._all(asking=False)

    def _all(self, *, asking: bool) -> None:
        with self._mutex:
            self._asking = asking
            for display in self._displays:
                if asking:
                    display.pause()
                else:
                    display.resume()


TERMINAL = Terminal()
