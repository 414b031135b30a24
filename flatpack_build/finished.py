"""How a box ended up in the folder of boxes, for whoever shows it. Pure data; on the way to "nothing to do"."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["built", "cached", "up to date"]


@dataclass(frozen=True)
class FinishedBox:
    """A box that stands in the folder of boxes. ``pack`` names the action that packed it, ``quant`` is its model's
    quantisation (empty: it has no model), ``size`` is in bytes, ``seconds`` the time of all actions that went into it now.
    """

    flatpack: str
    target: str
    pack: str
    quant: str
    path: Path
    size: int
    state: State
    seconds: float
