"""What a build was asked for beyond its tasks. Plain data; set by ``flatpack build``, or by the environment for doit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BuildOptions:
    """``locked``: a lock is neither made nor changed; without one the build stops."""

    locked: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> BuildOptions:
        """``FLATPACK_LOCKED=1``: for CI, where the command line is doit's."""
        return cls(locked=environment.get("FLATPACK_LOCKED", "") not in ("", "0"))
