from __future__ import annotations

from pathlib import Path

import pytest

from tests.box.samples import KeyPair, make_box


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair(tmp_path_factory.mktemp("keys"), "signing")


@pytest.fixture(scope="session")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair(tmp_path_factory.mktemp("keys"), "other")


@pytest.fixture(scope="session")
def large_key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    """One of the size that is used outside tests; making it takes a second or two."""
    return KeyPair(tmp_path_factory.mktemp("keys"), "large", bits=4096)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Path:
    """A box of the flatpack "chat"."""
    return make_box(tmp_path_factory.mktemp("boxes"), key.private)
