"""What all tests share: projects in temporary folders, and the real model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or changes the cache, the settings, the keys or the passphrase of whoever runs it."""
    monkeypatch.setenv("FLATPACK_CACHE", os.fspath(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("FLATPACK_CONFIG", os.fspath(tmp_path_factory.mktemp("config")))
    for name in (
        "FLATPACK_SIGNING_KEY", "FLATPACK_PASSPHRASE", "FLATPACK_VERIFY_CACHE", "FLATPACK_LOCKED", "FLATPACK_TRUST",
        "FLATPACK_SUMMARY", "FLATPACK_JUNIT", "FLATPACK_RECORD", "GITHUB_STEP_SUMMARY",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    yield


@pytest.fixture
def empty_project(tmp_path: Path) -> Path:
    """A project folder with an empty warehouse."""
    project = tmp_path / "project"
    (project / "warehouse").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.doit]\nloader = "flatpack"\n\n[tool.flatpack-build]\n')
    return project
