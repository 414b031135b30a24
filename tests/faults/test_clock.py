"""A clock that jumps: nothing is built twice for it, and no edit is missed."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground

_YEAR = 365 * 24 * 3600


def built(said: str) -> list[str]:
    return sorted(line.split()[1] for line in said.splitlines() if line.startswith("  built "))


@pytest.mark.parametrize("jump", [-_YEAR, _YEAR])
def test_files_of_another_time_change_nothing(ground: Ground, undisturbed: Undisturbed, jump: int) -> None:
    ground.good_build()
    for folder in (ground.project, ground.cache):
        for path in folder.rglob("*"):
            os.utime(path, (time.time() + jump, time.time() + jump))
    assert built(ground.good_build()) == []
    assert ground.payloads() == undisturbed.payloads
    ground.assert_clean()


@pytest.mark.parametrize("jump", [-_YEAR, _YEAR])
def test_an_edit_that_looks_older_or_newer_than_it_is_counts(ground: Ground, jump: int) -> None:
    ground.good_build()
    before = ground.payloads()
    page = ground.project / "warehouse/small/manual/part-1.md"
    status = page.stat()
    page.write_text(page.read_text().replace("w1", "w2"))  # the same length
    os.utime(page, ns=(status.st_atime_ns, status.st_mtime_ns + jump * 10**9))
    assert "index:small" in built(ground.good_build())
    assert ground.payloads() != before


def test_an_edit_with_the_old_size_and_time_counts(ground: Ground) -> None:
    page = ground.project / "warehouse/small/manual/part-1.md"
    os.utime(page, (1e9, 1e9))
    time.sleep(0.2)  # older than a tick of the clock, so its digest is remembered
    ground.good_build()
    page.write_text(page.read_text().replace("w1", "w2"))
    os.utime(page, (1e9, 1e9))
    assert "index:small" in built(ground.good_build())


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_builds_under_clocks_that_jump_back_and_forth(ground: Ground, undisturbed: Undisturbed) -> None:
    for day in ("+400d", "-800d", "+1d"):
        page = ground.project / "warehouse/small/manual/part-0.md"
        text = page.read_text()
        page.write_text(text + f"\nOn another day, {day}.\n")
        clock = ("faketime", "-f", day)
        assert "index:small" in built(ground.good_build(before=clock))
        assert built(ground.good_build(before=clock)) == []
        page.write_text(text)
        ground.good_build(before=clock)
        assert ground.payloads() == undisturbed.payloads
    ground.assert_clean()
