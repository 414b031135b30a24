"""Versions of the tools whose release decides an output's bytes, looked up once each. Imports none of them."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from flatpack_build.errors import UsageError


@lru_cache(maxsize=64)
def tool_version(distribution: str) -> str:
    """The installed version of a distribution. Raises ``UsageError`` when it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError as error:
        raise UsageError(f"{distribution} is not installed", hint=f"install it: pip install {distribution}") from error
