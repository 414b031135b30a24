"""What all tests share: projects in temporary folders, and the real model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or fills the cache, the keys or the passphrase of whoever runs it."""
    monkeypatch.setenv("FLATPACK_CACHE", os.fspath(tmp_path_factory.mktemp("cache")))
    for name in ("FLATPACK_SIGNING_KEY", "FLATPACK_MODEL_SIGNING_KEY", "FLATPACK_PASSPHRASE", "FLATPACK_VERIFY_CACHE"):
        monkeypatch.delenv(name, raising=False)
    yield


@pytest.fixture
def empty_project(tmp_path: Path) -> Path:
    """A project folder with an empty warehouse."""
    project = tmp_path / "project"
    (project / "warehouse").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.doit]\nloader = "flatpack"\n\n[tool.flatpack-build]\n')
    return project
