"""``flatpack lock``: resolve every source of a flatpack to something that cannot change."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command()
@click.argument("names", nargs=-1)
def lock(names: tuple[str, ...]) -> None:
    """Resolve sources into flatpack.lock; without a name: for every flatpack.

    What has to be downloaded for that is kept in the cache, so the next build does not download it again.

    \b
    Example: flatpack lock smollm2-chat
    """
    from flatpack_build.executor.local import LocalExecutor  # needed only once there is something to lock
    from flatpack_build.locker import lock_flatpack
    from flatpack_build.naming import flatpack_name
    from flatpack_build.project import find_project
    from flatpack_build.runner import Runner
    from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
    from flatpack_build.store.projects import register
    from flatpack_build.store.use import CacheUse
    from flatpack_build.views import view_for

    project = find_project(Path.cwd())
    scratch = Scratch(project.cache)
    runner = Runner(LocalStore(project.cache), LocalActionCache(project.cache), LocalExecutor(os.environ), scratch)
    view = view_for(sys.stdout)
    use = CacheUse(project.cache)
    register(project)
    use.hold(lambda: view.line("waiting: the cache is being cleaned up"))
    try:
        for name in [flatpack_name(project, name) for name in names] or project.flatpacks():
            lock_flatpack(project, name, runner, view)
    finally:
        view.close()
        scratch.close()
        use.release()
