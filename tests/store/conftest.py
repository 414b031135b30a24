"""A cache of one's own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.filling import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Empty, and not there yet."""
    return Cache(tmp_path / "cache")
