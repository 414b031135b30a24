"""``flatpack build``: what ``doit build:...`` does, from any folder of the project."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME[@TARGET]|TASK]...")
@click.option("-n", "--jobs", type=click.IntRange(min=1), help="Actions to run at once.  [default: one for each core]")
@click.option("-c", "--keep-going", is_flag=True, help="Go on with what does not depend on a failure.")
@click.option("--locked", is_flag=True, help="Stop where flatpack.lock is missing or does not fit (for CI).")
@click.option("--verify-reproducible", is_flag=True, help="Run every action twice and compare; build no boxes.")
@click.option("--dry-run", is_flag=True, help="Say what would run and how long it would take; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON for programs.")
@click.option("--summary", metavar="FILE", default="", help="Write a Markdown summary to FILE; -: to the job's page.")
@click.option("--junit", metavar="FILE", default="", help="Write a JUnit XML report to FILE.")
@click.option("--record", metavar="FILE", default="", help="Write the record of this build to FILE, as JSON lines.")
def build(
    names: tuple[str, ...],
    jobs: int | None,
    keep_going: bool,
    locked: bool,
    verify_reproducible: bool,
    dry_run: bool,
    as_json: bool,
    summary: str,
    junit: str,
    record: str,
) -> int:
    """Build the boxes of flatpacks; without a name: of the whole warehouse.

    NAME may be the path of its folder, or a single task. The reports are written also when the build fails.

    \b
    Examples:
      flatpack build --dry-run
      flatpack build smollm2-chat@pi5
      flatpack build --locked --summary - --junit build.xml
    """
    from flatpack_build.doit_tasks.main import run_doit  # doit is loaded only to build
    from flatpack_build.doit_tasks.options import BuildOptions, absolute
    from flatpack_build.naming import flatpack_name
    from flatpack_build.project import find_project

    reports = [option for option, file in (("--summary", summary), ("--junit", junit), ("--record", record)) if file]
    if reports and (dry_run or verify_reproducible):
        raise click.UsageError(f"{reports[0]} goes with a build: it has nothing to report of this")
    if dry_run and verify_reproducible:
        raise click.UsageError("--dry-run does not go with --verify-reproducible")
    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run")
    project = find_project(Path.cwd())
    names = tuple(flatpack_name(project, name) for name in names)
    if verify_reproducible:
        from flatpack_build.cli.twice import build_twice  # rarely asked for

        return build_twice(project, names)
    if dry_run:
        from flatpack_build.doit_tasks.commands import open_inspection, plan_answer

        text, status = plan_answer(open_inspection(project), list(names), as_json)
        click.echo(text)
        return status
    from_environment = BuildOptions.from_environment(os.environ)
    options = BuildOptions(
        locked=locked or from_environment.locked,
        summary=absolute(summary) or from_environment.summary,
        junit=absolute(junit) or from_environment.junit,
        record=absolute(record) or from_environment.record,
    )
    flags = [*(["-n", str(jobs)] if jobs else []), *(["--continue"] if keep_going else [])]
    tasks = [name if ":" in name else f"build:{name}" for name in names]
    return run_doit(project.root, ["run", *flags, *tasks], options)
