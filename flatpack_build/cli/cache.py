"""``flatpack cache``: what the cache holds, keeping it small, and checking that it is whole."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from flatpack_build.cli.groups import HelpfulGroup
from flatpack_build.errors import StoreError
from flatpack_build.limits import Limits, parse_age, parse_size
from flatpack_build.project import Project, find_project_or_user
from flatpack_build.views import View, size_text, time_text, view_for

if TYPE_CHECKING:
    from flatpack_build.store.audit import Audit
    from flatpack_build.store.gc import Collection
    from flatpack_build.store.statistics import Statistics

Number = TypeVar("Number", int, float)
_WIDE = 64
_NUMBERS = frozenset({"size", "actions"})


class _Care(HelpfulGroup):
    guessed = {
        "clean": "flatpack cache gc; to empty it, delete the folder that flatpack cache path names",
        "clear": "flatpack cache gc; to empty it, delete the folder that flatpack cache path names",
        "purge": "flatpack cache gc; to empty it, delete the folder that flatpack cache path names",
        "prune": "flatpack cache gc",
        "size": "flatpack cache stats",
        "list": "flatpack cache stats",
        "info": "flatpack cache stats",
        "check": "flatpack cache verify",
        "dir": "flatpack cache path",
    }


@click.group(cls=_Care)
def cache() -> None:
    """Look after the cache: see what it holds, keep it small, check that it is whole.

    \b
    Examples:
      flatpack cache stats
      flatpack cache gc --max-size 20GB
      flatpack cache verify
    """


class _Quantity(click.ParamType[Number]):
    """A size or an age, as a person writes it."""

    def __init__(self, name: str, parse: Callable[[str], Number]) -> None:
        self.name = name
        self._parse: Callable[[str], Number] = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Number:
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _project() -> Project:
    return find_project_or_user(Path.cwd(), os.environ)


def _print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Numbers and sizes to the right, everything else to the left."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    click.echo()
    for row in (header, *rows):
        cells = [
            f"{cell:>{width}}" if title in _NUMBERS else f"{cell:<{width}}"
            for title, cell, width in zip(header, row, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@cache.command()
def path() -> None:
    """Print the folder of the cache.

    \b
    Example: du -sh "$(flatpack cache path)"
    """
    click.echo(_project().cache)


# --- stats


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(as_json: bool) -> None:
    """Show what the cache holds: by step, by last use, and what is biggest.

    \b
    Examples:
      flatpack cache stats
      flatpack cache stats --json
    """
    from flatpack_build.store.statistics import take_statistics  # each command loads what it needs

    project = _project()
    found = take_statistics(project.cache, now=time.time())
    limits = project.cache_limits
    if as_json:
        value = {"path": os.fspath(project.cache), **dataclasses.asdict(found), "limits": dataclasses.asdict(limits)}
        click.echo(json.dumps(value, indent=2))
    else:
        _show_statistics(found, project)


def _show_statistics(found: Statistics, project: Project) -> None:
    rows = [
        ("folder", os.fspath(project.cache)),
        ("size", size_text(found.size)),
        ("limits", _limits_text(project)),
        ("blobs", f"{found.blobs:,}"),
        ("actions", f"{found.actions:,}"),
        ("projects", f"{found.projects:,}"),
        ("kept for locks", size_text(found.locked)),
        ("unused", f"{size_text(found.unused)} (flatpack cache gc removes it)" if found.unused else "nothing"),
        ("temporary", size_text(found.temporary)),
        ("disk free", size_text(found.free) if found.free is not None else "-"),
    ]
    for name, value in rows:
        click.echo(f"{name:<15} {value}")
    for title, shares in (("step", found.steps), ("last used", [share for share in found.ages if share.actions])):
        _print_rows(
            (title, "actions", "size"), [(share.name, f"{share.actions:,}", size_text(share.size)) for share in shares]
        )
    biggest = [
        (_shortened(" ".join(big.made_by[:3]) or "(unused)"), big.digest.short, size_text(big.size))
        for big in found.biggest
    ]
    _print_rows(("biggest", "sha256", "size"), biggest)


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 3]}..."


def _limits_text(project: Project) -> str:
    set_to = [
        f"{name} = {value}"
        for name, value in (
            ("cache_max_size", project.settings.cache_max_size),
            ("cache_max_age", project.settings.cache_max_age),
        )
        if value
    ]
    return ", ".join(set_to) or "none: set cache_max_size or cache_max_age in [tool.flatpack-build]"


# --- gc

GC_EPILOG = """\b
Examples:
  flatpack cache gc --max-size 20GB
  flatpack cache gc --max-age 30d --dry-run
"""


@cache.command(epilog=GC_EPILOG)
@click.option(
    "--max-size", type=_Quantity("SIZE", parse_size), help="What the cache may hold.  [default: cache_max_size]"
)
@click.option(
    "--max-age",
    type=_Quantity("AGE", parse_age),
    help="Remove what was not used for so long.  [default: cache_max_age]",
)
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@click.option("--no-wait", is_flag=True, help="Fail at once where a build uses the cache, instead of waiting for it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(max_size: int | None, max_age: float | None, dry_run: bool, no_wait: bool, as_json: bool) -> None:
    """Remove what nothing refers to, then what was not used for longest, until the limits hold.

    The limits are those of the options, else those of the settings. What a running build uses stays, and so do the
    fetched sources that a flatpack.lock names, in every project that has built with this cache.
    """
    from flatpack_build.store.gc import collect, preview  # each command loads what it needs
    from flatpack_build.store.projects import register

    project = _project()
    root = project.cache
    set_to = project.cache_limits
    limits = Limits(
        max_size if max_size is not None else set_to.max_size, max_age if max_age is not None else set_to.max_age
    )
    if root.exists() and project.warehouse.is_dir():
        register(project)  # it may have been built with a version that did not
    now = time.time()
    if dry_run or not root.exists():
        collection = preview(root, limits, now=now)
    else:
        with _alone(root, wait=not no_wait):
            collection = collect(root, limits, now=now)
    if as_json:
        click.echo(json.dumps(_collection_json(root, collection, limits, dry_run), indent=2))
    else:
        _show_collection(collection, limits, dry_run)


@contextlib.contextmanager
def _alone(root: Path, *, wait: bool) -> Iterator[None]:
    from flatpack_build.store.local import cannot  # each command loads what it needs
    from flatpack_build.store.use import have_alone

    try:
        lock = have_alone(root, wait=False)
        if lock is None and wait:
            click.echo("waiting for a build that uses the cache (Ctrl-C: not now)", err=True)
            lock = have_alone(root, wait=True)
    except OSError as error:
        raise cannot("lock", error, root) from error
    if lock is None:
        raise StoreError(f"a build uses the cache {root}", hint="try again when it has ended, or leave --no-wait out")
    try:
        yield
    finally:
        lock.release()


def _collection_json(root: Path, collection: Collection, limits: Limits, dry_run: bool) -> dict[str, object]:
    return {
        "path": os.fspath(root),
        "dry_run": dry_run,
        "limits": dataclasses.asdict(limits),
        "size_before": collection.size_before,
        "size_after": collection.size_after,
        "kept_for_locks": collection.locked,
        "kept_as_new": collection.young,
        "over_limit": collection.over,
        "unreadable_locks": list(collection.unreadable),
        "blobs": len(collection.blobs),
        "leftovers": len(collection.leftovers),
        "actions": [
            {
                "key": action.key,
                "action": action.result.action if action.result else None,
                "step": action.result.step if action.result else None,
                "used": action.used,
            }
            for action in collection.actions
        ],
    }


def _show_collection(collection: Collection, limits: Limits, dry_run: bool) -> None:
    steps = Counter(action.result.step if action.result else "(unreadable)" for action in collection.actions)
    _print_rows(("step", "actions"), [(step, f"{number:,}") for step, number in sorted(steps.items())])
    freed = size_text(collection.size_before - collection.size_after)
    removed = ", ".join(
        (_counted(len(collection.actions), "action"), _counted(len(collection.blobs), "blob"),
         _counted(len(collection.leftovers), "leftover"))
    )  # fmt: skip
    click.echo(
        f"{'would remove' if dry_run else 'removed'} {freed}: {removed}; {size_text(collection.size_after)} left"
    )
    for lock in collection.unreadable:
        click.echo(f"warning: every fetched source is kept, because a lock cannot be read: {lock}", err=True)
    if collection.over:
        click.echo(
            f"{size_text(collection.over)} more than the limit: {size_text(collection.locked)} are sources that locks need, "
            f"{size_text(collection.young)} came within the last hour and nothing refers to them yet"
        )
    if not limits:
        click.echo(
            "no limit is set: give --max-size or --max-age, or set cache_max_size or cache_max_age in the settings"
        )


# --- verify

_VERIFYING = "verifying the cache"


class _Progress:
    """A listener that draws on a view."""

    def __init__(self, view: View) -> None:
        self._view = view

    def progress(self, done: int, total: int | None, unit: str) -> None:
        self._view.progress(_VERIFYING, done, total, unit)

    def note(self, text: str) -> None:
        self._view.line(text)


@cache.command()
@click.option("-n", "--jobs", type=click.IntRange(min=1), help="Blobs to hash at once.  [default: one for each core]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(jobs: int | None, as_json: bool) -> None:
    """Hash everything in the cache and remove what is damaged: the next build makes it again.

    The exit status is 1 if anything was.

    \b
    Example: flatpack cache verify
    """
    from flatpack_build.events import listening  # each command loads what it needs
    from flatpack_build.store.audit import audit
    from flatpack_build.store.use import CacheUse

    project = _project()
    view = view_for(sys.stderr)
    use = CacheUse(project.cache)
    start = time.monotonic()
    try:
        if project.cache.exists():
            use.hold(lambda: view.line("waiting: the cache is being cleaned up"))
        view.start(_VERIFYING)
        with listening(_Progress(view)):
            found = audit(project.cache, jobs=jobs or project.jobs)
        view.end(_VERIFYING)
    finally:
        view.close()
        use.release()
    if as_json:
        click.echo(json.dumps({"path": os.fspath(project.cache), **dataclasses.asdict(found)}, indent=2))
    else:
        _show_audit(found, time.monotonic() - start)
    if found.findings:
        click.get_current_context().exit(1)


def _show_audit(found: Audit, seconds: float) -> None:
    _print_rows(
        ("what", "name", "size", "done", "why"),
        [(bad.kind, bad.name[:12], size_text(bad.size), bad.done, bad.detail) for bad in found.findings],
    )
    click.echo(
        f"{_counted(found.blobs, 'blob')} of {size_text(found.size)} and {_counted(found.actions, 'action')} checked in "
        f"{time_text(seconds)}: {len(found.findings) or 'nothing'} bad"
    )
    if found.findings:
        click.echo("what was removed will be made again by the next build that needs it")
