"""Writes reports where they were asked for: a file, the page of a GitHub job, standard output. Knows no format's inside."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from flatpack_build.errors import FlatpackError, StoreError, UsageError
from flatpack_build.fs import atomic_write
from flatpack_build.report.junit import junit_xml
from flatpack_build.report.markdown import markdown
from flatpack_build.report.model import BuildReport

STANDARD = "-"
"""Stands for the page of the job (``GITHUB_STEP_SUMMARY``) where there is one and it is a summary, else for standard
output."""


def check_place(what: str, path: str) -> None:
    """Refuse a place where nothing can be written before hours of work, not after. Raises ``UsageError``."""
    if path in ("", STANDARD):
        return
    if os.path.isdir(path):
        raise UsageError(f"{what} cannot be written to {path}: it is a folder", hint="name a file")
    folder = Path(path).parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"{what} cannot be written to {path}: {folder} cannot be written to", hint="name another file")


def write_reports(
    report: BuildReport, *, summary: str, junit: str, record: str, environment: Mapping[str, str]
) -> None:
    """Write each report whose place is not empty. Tries all of them; raises the first ``StoreError``."""
    failed: list[FlatpackError] = []
    page = environment.get("GITHUB_STEP_SUMMARY", "") if summary == STANDARD else ""
    wanted: tuple[tuple[str, str, Callable[[BuildReport], bytes]], ...] = (
        ("the summary", page or summary, lambda report: markdown(report).encode()),
        ("the JUnit report", junit, junit_xml),
        ("the record", record, lambda report: b"".join(line.encode() for line in report.lines)),
    )
    for what, path, encode in wanted:
        if not path:
            continue
        try:
            _write(path, encode(report), append=bool(page) and path == page)
        except OSError as error:
            failed.append(_cannot(what, path, error))
    if failed:
        raise failed[0]


def _write(path: str, data: bytes, *, append: bool) -> None:
    if path == STANDARD:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    elif append:
        with open(path, "ab") as file:  # what earlier steps of the job wrote stays
            file.write(b"\n" + data)
    elif os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        with open(path, "wb") as file:  # a pipe or a device cannot be replaced
            file.write(data)
    else:
        atomic_write(Path(path), data)


def _cannot(what: str, path: str, error: OSError) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return StoreError(
        f"cannot write {what} of the build, {path}: {error.strerror or error}",
        hint=("free some space" if full else "name another file") + "; the boxes are not affected",
    )
