"""``flatpack build``: what ``doit build:...`` does, from any folder of the project."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME[@TARGET]]...")
@click.option("-n", "--jobs", type=click.IntRange(min=1), help="Actions to run at once.  [default: one for each core]")
@click.option("-c", "--keep-going", is_flag=True, help="Go on with what does not depend on a failure.")
@click.option("--locked", is_flag=True, help="Stop where flatpack.lock is missing instead of making it (for CI).")
@click.option("--verify-reproducible", is_flag=True, help="Run every action twice and compare; build no boxes.")
def build(names: tuple[str, ...], jobs: int | None, keep_going: bool, locked: bool, verify_reproducible: bool) -> int:
    """Build the boxes of flatpacks; without a name: of the whole warehouse.

    \b
    Example: flatpack build smollm2-chat@pi5
    """
    from flatpack_build.doit_tasks.main import run_doit  # doit is loaded only to build
    from flatpack_build.doit_tasks.options import BuildOptions
    from flatpack_build.project import find_project

    project = find_project(Path.cwd())
    if verify_reproducible:
        from flatpack_build.cli.reproduce import reproduce  # rarely asked for

        return reproduce(project, names)
    options = [*(["-n", str(jobs)] if jobs else []), *(["--continue"] if keep_going else [])]
    return run_doit(project.root, ["run", *options, *(f"build:{name}" for name in names)], BuildOptions(locked))
