"""The fetch step: bring exactly what the lock names. The only step that reaches the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flatpack_build.fetching.sources import fetch_source
from flatpack_build.params import FetchParams


def run(params: FetchParams, inputs: Mapping[str, Path], out: Path) -> None:
    """Write the files of ``params.source`` below ``out``. Of a ``file:`` source they come as input ``file``.

    Raises ``SourceError`` when they cannot be had, ``VerificationError`` when they are not what was locked.
    """
    fetch_source(params, inputs, out)
