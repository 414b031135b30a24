"""A listener for tests that ask what a step said, or do not care."""

from __future__ import annotations


class Heard:
    """Keeps all that it is told, in its order."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int | None, str]] = []
        """Done, of how much, and of what."""
        self.notes: list[str] = []

    def progress(self, done: int, total: int | None, unit: str) -> None:
        self.steps.append((done, total, unit))

    def note(self, text: str) -> None:
        self.notes.append(text)
