"""Generates ``device.sh``: what ``build.sh`` must know of the device it runs on. Knows no target by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flatpack_build.fs import atomic_write
from flatpack_build.params import DeviceParams
from flatpack_build.steps.rendering import render


def run(params: DeviceParams, inputs: Mapping[str, Path], out: Path) -> None:  # noqa: ARG001 (a step's signature)
    """Write ``out/device.sh``. It takes no inputs."""
    text = render(
        "device.sh.j2",
        flatpack=params.flatpack,
        device=params.device,
        architecture=params.architecture,
        threads=params.threads,
        memory_mb=params.memory_mb,
        service_manager=params.service_manager,
        python=params.python,
    )
    atomic_write(out / "device.sh", text.encode(), mode=0o755)
