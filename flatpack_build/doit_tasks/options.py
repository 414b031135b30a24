"""What a build was asked for beyond its tasks. Plain data; set by ``flatpack build``, or by the environment for doit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_NO = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True)
class BuildOptions:
    """``locked``: a lock is neither made nor changed; without one that fits the build stops.

    ``summary``, ``junit`` and ``record`` are where a report is written to, also when the build fails: an absolute path,
    ``-`` (``report.files.STANDARD``), or empty for none.
    """

    locked: bool = False
    summary: str = ""
    junit: str = ""
    record: str = ""

    @property
    def reports(self) -> bool:
        return bool(self.summary or self.junit or self.record)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> BuildOptions:
        """``FLATPACK_LOCKED=1``, ``FLATPACK_SUMMARY=FILE``, ``FLATPACK_JUNIT=FILE``, ``FLATPACK_RECORD=FILE``: for CI,
        where the command line is doit's."""
        return cls(
            locked=environment.get("FLATPACK_LOCKED", "").strip().lower() not in _NO,
            summary=absolute(environment.get("FLATPACK_SUMMARY", "")),
            junit=absolute(environment.get("FLATPACK_JUNIT", "")),
            record=absolute(environment.get("FLATPACK_RECORD", "")),
        )


def absolute(path: str) -> str:
    """Seen from where the command was typed: doit goes to the project's folder before it builds."""
    return os.path.abspath(path) if path not in ("", "-") else path
