"""What the machine has, and what the control group of a container leaves of it, read from real layouts of files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from flatpack_build.machine import Capacity, machine


def layout(root: Path, files: Mapping[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


TOTAL = psutil.virtual_memory().total


def test_without_control_groups_it_is_the_whole_machine(tmp_path: Path) -> None:
    found = machine(groups=tmp_path)
    assert found.cores == (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    assert 0.8 * TOTAL < found.memory <= 0.9 * TOTAL * 1.01


def test_this_machine() -> None:
    found = machine()
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert 50_000_000 < found.memory < TOTAL


def test_settings_win(tmp_path: Path) -> None:
    assert machine(cores=3, memory_mb=500, groups=tmp_path) == Capacity(3, 500_000_000)


V2 = {
    "proc/self/cgroup": "0::/user.slice/build.scope\n",
    "sys/fs/cgroup/user.slice/memory.max": "200000000\n",
    "sys/fs/cgroup/user.slice/build.scope/memory.max": "max\n",
    "sys/fs/cgroup/user.slice/build.scope/cpu.max": "100000 100000\n",
}
V1 = {
    "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:pids:/\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "200000000\n",  # in a container its own group is the top
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize("files", [V2, V1], ids=["v2", "v1"])
def test_the_limits_of_a_control_group(tmp_path: Path, files: Mapping[str, str]) -> None:
    assert machine(groups=layout(tmp_path, files)) == Capacity(1, 180_000_000)


def test_groups_without_limits(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n5:memory:/\n4:cpu,cpuacct:/\n",
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert machine(groups=layout(tmp_path, files)) == machine(groups=tmp_path / "none")


def test_part_of_a_core_is_one(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}
    assert machine(groups=layout(tmp_path, files)).cores == min(2, machine(groups=tmp_path / "none").cores)
