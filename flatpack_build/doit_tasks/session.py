"""What one run of doit shares: the project, its stamps, where progress is drawn, and the engine if one is needed.

It stands on the way to "nothing to do": what only a build with something to look at needs is loaded there.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flatpack_build import __version__
from flatpack_build.box.signer import KeySigner
from flatpack_build.digest import Digest, Json, canonical_json
from flatpack_build.doit_tasks.options import BuildOptions
from flatpack_build.doit_tasks.state import State
from flatpack_build.errors import FlatpackError, KeyFileError, StoreError
from flatpack_build.events import NOBODY, Listener
from flatpack_build.finished import FinishedBox
from flatpack_build.project import Project
from flatpack_build.stamps import Stamp, Stamps, signature
from flatpack_build.views import Row, View, size_text

if TYPE_CHECKING:
    from flatpack_build.box.model_signing import ModelSigner
    from flatpack_build.builder import Builder, Outcome
    from flatpack_build.doit_tasks.engine import Engine
    from flatpack_build.record import ActionLine


def stamps_of(project: Project) -> Stamps:
    """Stamps that hold as long as the program, its packages, the settings and the key stay as they are."""
    packages = [folder for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))]
    here = [
        os.fspath(project.root / "pyproject.toml"),
        os.fspath(project.signing_key),
        os.fspath(project.public_key),
        *([os.fspath(project.model_signing_key)] if project.model_signing_key else []),
    ]
    circumstances: Json = [
        __version__,
        sys.version,
        list(os.uname()),
        [os.fspath(path) for path in (project.root, project.cache, project.dist)],
        [[path, signature(path)] for path in (*here, *packages)],
    ]
    return Stamps(os.fspath(project.stamps), Digest.of_bytes(canonical_json(circumstances)))


class Session:
    """Made by the loader, closed by the reporter."""

    def __init__(self, project: Project, options: BuildOptions) -> None:
        self.project = project
        self.options = options
        self.view: View | None = None
        self.state: State | None = None
        self.executes = False
        """Whether this run builds: a listing has nothing to report."""
        self.selected: Callable[[], Collection[str]] = tuple
        """The names of all tasks that this run was to bring up to date."""
        self.others_failed: list[ActionLine] = []
        """Failures of tasks that are the user's own."""
        self.fresh: dict[str, Stamp] = {}
        """Flatpacks in which there is nothing to do: their stamps."""
        self._engine: Engine | None = None
        self._started = datetime.now(UTC)
        self._start = time.monotonic()
        self._reported = False

    @cached_property
    def signer(self) -> KeySigner:
        """Raises ``KeyFileError`` when there is no key to sign with."""
        return KeySigner(self.project.signing_key, self.project.public_key)

    @cached_property
    def model_signer(self) -> ModelSigner | None:
        """``None`` where the settings ask for no model signatures."""
        if not self.project.model_signing_key:
            return None
        from flatpack_build.box.model_signing import ModelSigner  # most projects make none

        return ModelSigner(self.project.model_signing_key)

    @cached_property
    def stamps(self) -> Stamps:
        """Read once: what they hold for is looked at when they are first asked for."""
        return stamps_of(self.project)

    def engine(self) -> Engine:
        """Made when it is first asked for."""
        if self._engine is None:
            from flatpack_build.doit_tasks.engine import Engine  # brings most of the program

            self._engine = Engine(self.project, self.stamps, self.signer, self.model_signer)
        return self._engine

    @property
    def builder(self) -> Builder | None:
        """``None`` before there is something to look at, and after the end."""
        return self._engine.builder if self._engine else None

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """How the actions ended that were looked at."""
        return self.builder.outcomes if self.builder else {}

    def boxes(self) -> list[FinishedBox]:
        """All boxes of this run that stand in place, by the names of their flatpacks."""
        found = [
            FinishedBox(name, box.target, box.pack, box.quant, Path(box.path), box.size, "up to date", 0.0)
            for name, stamp in self.fresh.items()
            for box in stamp.boxes
        ]
        found += self.builder.finished_boxes() if self.builder else []
        return sorted(found, key=lambda box: box.flatpack)

    def listener(self, name: str) -> Listener:
        return Row(self.view, name) if self.view is not None else NOBODY

    def succeeded(self, name: str) -> None:
        if self.state is not None:
            self.state.remember(name)

    def failed(self, name: str, error: str) -> None:
        """Note the failure of a task, if it is one of the user's own: the others are in the record."""
        if self._engine is None or not self._engine.knows(name):
            from flatpack_build.record import ActionLine  # only where something fails

            self.others_failed.append(ActionLine(name, "task", "failed", error=error, error_type="StepError"))

    @property
    def trouble(self) -> str:
        """Why the record of this build is not complete; empty when it is."""
        trouble = self._engine.record.trouble if self._engine else ""
        return trouble.replace(f"{self.project.root}/", "")

    def signed_by(self) -> str:
        kind = "development key" if self.signer.development else "key"
        try:
            return f"{kind} {self.signer.key_id[:12]}"
        except KeyFileError:
            return "nobody"

    def shown(self, path: Path) -> str:
        """A path as it is shown: relative to the project where it lies in it."""
        return os.fspath(path.relative_to(self.project.root)) if path.is_relative_to(self.project.root) else str(path)

    def report(self, problem: str = "") -> None:
        """End the record and write the reports that were asked for; ``problem`` is why the build could not begin.

        Does so once. Raises ``StoreError`` when a report cannot be written.
        """
        if self._reported or not self.executes:
            return
        self._reported = True
        wanted = self.options.reports
        lines = self._engine.end_record(self.selected(), always=wanted) if self._engine else []
        if wanted:
            self._write_reports([*lines, *self.others_failed], problem)

    def _write_reports(self, lines: Collection[ActionLine], problem: str) -> None:
        from flatpack_build.report.files import write_reports  # for CI: most builds report to nobody
        from flatpack_build.report.model import BuildReport

        seconds = time.monotonic() - self._start
        boxes = self.builder.finished_boxes() if self.builder else []
        report = BuildReport(
            self._started,
            seconds,
            [self._with_short_paths(line) for line in lines],
            boxes,
            problem,
            self.signed_by() if boxes else "",
        )
        options = self.options
        write_reports(
            report, summary=options.summary, junit=options.junit, record=options.record, environment=os.environ
        )

    def _with_short_paths(self, line: ActionLine) -> ActionLine:
        root = os.fspath(self.project.root).rstrip("/") + "/"
        return replace(line, error=line.error.replace(root, "")) if root in line.error else line

    def close(self) -> None:
        """Whatever happened before: nothing is left behind, and what was to be reported is."""
        try:
            self.report()
        except FlatpackError as error:
            sys.stderr.write(f"ERROR: {error}\n")
        if self._engine is not None:
            self._engine.close()

    def tidy_cache(self) -> str:
        """After ``close``, if this build did something: hold the cache to its limits, if any, once a day. Says what went.

        Does nothing while another build uses the cache: that one, or the next, will see to it.
        """
        limits = self.project.cache_limits
        if self._engine is None or self._engine.idle or not limits:
            return ""
        from flatpack_build.store.gc import collect_if_free  # reads the whole cache: not for every build
        from flatpack_build.store.use import is_due

        now = time.time()
        if not is_due(self.project.cache, now=now):
            return ""
        try:
            collection = collect_if_free(self.project.cache, limits, now=now)
        except StoreError as error:
            return f"the cache could not be cleaned up: {error}"
        if collection is None or not collection.actions:
            return ""
        freed = size_text(collection.size_before - collection.size_after)
        return f"cache: removed {freed} of what has not been used for longest (limits: see flatpack cache stats)"
