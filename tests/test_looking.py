"""A look that takes long is drawn, a short one is not, and nothing of it stays."""

from __future__ import annotations

from flatpack_build import events
from flatpack_build.doit_tasks.looking import LongLook
from flatpack_build.events import listening


class Drawn:
    """A view that remembers what it shows."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, int | None]] = {}
        self.ever = 0

    def start(self, name: str) -> None:
        self.rows[name] = 0, None
        self.ever += 1

    def progress(self, name: str, done: int, total: int | None, unit: str) -> None:
        assert name in self.rows
        self.rows[name] = done, total

    def end(self, name: str) -> None:
        del self.rows[name]

    def line(self, text: str) -> None: ...

    def close(self) -> None: ...


def test_a_long_look_is_drawn_until_it_ends() -> None:
    view = Drawn()
    look = LongLook(view, patience=0.0)
    with listening(look):
        events.progress(3, 10, "flatpacks")
        events.progress(4, 10, "flatpacks")
    assert list(view.rows.values()) == [(4, 10)]
    look.close()
    look.close()
    assert view.rows == {}
    look.progress(5, 10, "flatpacks")
    assert list(view.rows.values()) == [(5, 10)]


def test_a_short_one_is_not() -> None:
    view = Drawn()
    look = LongLook(view, patience=3600.0)
    look.progress(3, 10, "flatpacks")
    look.close()
    assert view.ever == 0
