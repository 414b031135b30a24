"""Runs doit inside this process, for ``flatpack build``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from doit.doit_cmd import DoitMain

from flatpack_build.doit_tasks.loader import WarehouseLoader
from flatpack_build.doit_tasks.options import BuildOptions


def run_doit(project: Path, arguments: Sequence[str], options: BuildOptions) -> int:
    """What ``doit <arguments>`` does in the folder ``project``. The exit status is doit's."""
    os.chdir(project)
    return int(DoitMain(WarehouseLoader(options)).run(list(arguments)))
