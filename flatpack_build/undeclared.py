"""What a build step looked for and had not declared: names it, and the line to add. Pure; knows no sandbox, no store.

Two kinds of evidence. What the command printed shows a file that was missed if the command says so: that is always
looked at. What it was seen to look for (``Observed.missed``) shows all of them, but is there only when it was traced.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from flatpack_build.action import Surroundings
from flatpack_build.errors import StepError
from flatpack_build.patterns import covers, is_pattern, matches

_SHOWN = 5
# Words of the operating system: whoever prints them with a file's name has looked for that file.
_NO_SUCH = re.compile(
    r"no such file|filenotfound|cannot (?:open|access|stat)|can't (?:open|read|cd to)|no rule to make target", re.I
)
_ABSENT = re.compile(
    _NO_SUCH.pattern
    + r"|not[ _]?found|(?:can ?not|can't|could ?n[o']t|unable to|failed to) (?:find|open|read|load|locate)"
    r"|does ?n[o']t exist|no module named",
    re.I,
)
_MODULE = re.compile(r"No module named '?([\w.]+)")
_NO_MAKEFILE = re.compile(r"no makefile found", re.I)
_QUOTED = re.compile(r"(?<!\w)'([^']+)'|\"([^\"]+)\"|[`\u2018]([^'\u2019]+)['\u2019]")
_LOOSE = "'\"`\u2018\u2019()[]{}<>,;:!?"


@dataclass(frozen=True)
class Observed:
    """One run of the step: ``given`` are the files it had, ``outputs`` what it declares to make.

    ``folder`` is where it found them. ``missed`` and ``reached`` are as in ``sandbox.SandboxResult``.
    """

    given: frozenset[str]
    outputs: tuple[str, ...]
    folder: str
    printed: str
    missed: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """``sought`` is what the step looked for, ``entry`` what to write into its inputs; empty: nothing would help."""

    sought: str
    entry: str
    certain: bool
    maker: str = ""
    """The build step that makes it."""


def explained(error: StepError, around: Surroundings, seen: Observed | None) -> StepError:
    """The error of a failed step with its place, and where it missed something, with what to declare."""
    place = error.place or around.place
    if seen is None:
        return StepError(error.message, place=place, hint=error.hint)
    search = _Search(around, seen)
    findings = [*search.traced(), *search.printed(_ABSENT)]
    certain = [finding for finding in findings if finding.certain and finding.entry]
    own = f"build step {around.name!r} "
    if certain:
        message = error.message
        if message.startswith(own):
            message = f"{own}looked for {_names(certain)}, not among its inputs, and {message.removeprefix(own)}"
        return StepError(message, place=place, hint=_line_to_add(around, certain))
    outside = [finding for finding in findings if not finding.entry]
    if outside:
        hint = f"it looked for {_names(outside)}, outside the flatpack's folder; {_OUTSIDE}"
        return StepError(error.message, place=place, hint=hint)
    likely = findings or list(search.mentioned())
    if likely:
        said = likely[0].sought
        what = (
            f"it looked for {said!r}, and the flatpack has {likely[0].entry}, which is not among its inputs"
            if findings
            else f"it printed {said!r}, a file of the flatpack that is not among its inputs"
        )
        return StepError(
            error.message, place=place, hint=f"{what}; if it needs that, {_line_to_add(around, likely[:1])}"
        )
    return StepError(error.message, place=place, hint=error.hint)


def refusal(around: Surroundings, seen: Observed) -> StepError | None:
    """What is wrong with a step that went well, although it looked for something that it had not declared."""
    search = _Search(around, seen)
    findings = [*search.traced(), *(finding for finding in search.printed(_NO_SUCH) if finding.certain)]
    certain = [finding for finding in findings if finding.certain and finding.entry]
    if certain:
        return StepError(
            f"build step {around.name!r} looked for {_names(certain)}, not among its inputs, and went on without",
            place=around.place,
            hint=_line_to_add(around, certain),
        )
    outside = [path for path in seen.reached if search.own(path) is None]
    if outside:
        return StepError(
            f"build step {around.name!r} read {', '.join(outside[:_SHOWN])}, outside the flatpack's folder",
            place=around.place,
            hint=_OUTSIDE,
        )
    return None


_OUTSIDE = "inputs must lie in that folder: copy the file there and declare it"


def _names(findings: Collection[Finding]) -> str:
    names = list(dict.fromkeys(finding.sought for finding in findings))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _line_to_add(around: Surroundings, findings: Collection[Finding]) -> str:
    entries = list(dict.fromkeys([*around.inputs, *(finding.entry for finding in findings)]))
    line = f"write in [build.{around.name}]: inputs = {json.dumps(entries, ensure_ascii=False)}"
    makers = list(dict.fromkeys(finding.maker for finding in findings if finding.maker))
    if makers:
        line += f" (then it runs after {', '.join(f'[build.{maker}]' for maker in makers)})"
    return line


class _Search:
    def __init__(self, around: Surroundings, seen: Observed) -> None:
        self._around = around
        self._seen = seen
        self._missing = {
            path for path in around.files if path not in seen.given and not any(covers(o, path) for o in seen.outputs)
        }

    @cached_property
    def _folders(self) -> set[str]:
        """The folders of undeclared files that the step did not have at all."""
        had = {folder for path in self._seen.given for folder in _parents(path)}
        made = {folder for path in self._seen.outputs for folder in (path, *_parents(path))}
        return {folder for path in self._missing for folder in _parents(path)} - had - made

    @cached_property
    def _by_last_name(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in sorted(self._missing):
            found.setdefault(path.rpartition("/")[2], []).append(path)
        return found

    def own(self, path: str) -> str | None:
        """An absolute path as one of the flatpack's, if it is one."""
        root = self._around.root.rstrip("/") + "/"
        return path.removeprefix(root) if path.startswith(root) else None

    # --- what was traced

    def traced(self) -> Iterator[Finding]:
        for path in self._seen.missed:
            relative = self.own(path) if path.startswith("/") else path
            if relative:
                yield from self._exactly(relative)
        for path in self._seen.reached:
            relative = self.own(path)
            if relative is not None:
                yield from self._exactly(relative)

    def _exactly(self, path: str) -> Iterator[Finding]:
        """What the flatpack has at ``path`` and the step had not."""
        if path in self._missing or path in self._folders:
            yield Finding(path, path, True)
        elif path not in self._seen.given and not any(covers(output, path) for output in self._seen.outputs):
            # Not by pattern: "*" fits all that a tool may look for on its way.
            makers = (
                name for output, name in self._around.made.items() if not is_pattern(output) and covers(output, path)
            )
            maker = next(makers, "")
            if maker:
                yield Finding(path, path, True, maker)

    # --- what was printed

    def printed(self, absent: re.Pattern[str]) -> Iterator[Finding]:
        """What the step said it could not find."""
        for line in self._lines():
            if absent.search(line):
                yield from self._said_missing(line)
            if _NO_MAKEFILE.search(line):
                for name in ("GNUmakefile", "makefile", "Makefile"):
                    yield from self._exactly(name)

    def _said_missing(self, line: str) -> Iterator[Finding]:
        module = _MODULE.search(line)
        if module:
            yield from self._module(module[1])
            return
        for name in _names_in(line):
            found = list(self._exactly(name))
            if found:
                yield from found
            elif is_pattern(name) and re.search(r"\w", name) and any(matches(path, name) for path in self._missing):
                yield Finding(name, name, True)  # the shell hands on a pattern that nothing fits
            elif name not in self._seen.given:
                yield from self._elsewhere(name)

    def _elsewhere(self, name: str) -> Iterator[Finding]:
        """The step may have been in another folder when it looked for ``name``."""
        below = name
        while below.startswith("../"):
            below = below[3:]
        for path in self._by_last_name.get(below.rpartition("/")[2], ()):
            if path == below or path.endswith("/" + below):
                yield Finding(name, path, False)
                return
        if name.startswith("../") and below not in self._seen.given:
            yield Finding(name, "", True)

    def _module(self, module: str) -> Iterator[Finding]:
        path = module.replace(".", "/")
        for name in (f"{path}.py", f"{path}/__init__.py"):
            for found in self._by_last_name.get(name.rpartition("/")[2], ()):
                if found == name or found.endswith("/" + name):
                    entry = posixpath.dirname(found) if name.endswith("/__init__.py") else found
                    beside = {"", *(posixpath.dirname(given) for given in self._seen.given)}
                    yield Finding(found, entry, found.removesuffix(name).rstrip("/") in beside)
                    return

    def mentioned(self) -> Iterator[Finding]:
        """Undeclared files whose whole path the step printed, whatever it said about them."""
        for line in self._lines():
            for name in _names_in(line):
                if name in self._missing and ("." in name or "/" in name):
                    yield Finding(name, name, False)

    def _lines(self) -> Iterator[str]:
        text = self._seen.printed
        for folder in (self._seen.folder, self._around.root):
            text = text.replace(folder.rstrip("/") + "/", "")
        yield from text.splitlines()


def _parents(path: str) -> Iterator[str]:
    folder = path.rpartition("/")[0]
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _names_in(line: str) -> Iterator[str]:
    """Everything in a line that may be the name of a file, without ``./``; a name with spaces too where it is set off."""
    parts: list[str] = [next(text for text in match.groups() if text) for match in _QUOTED.finditer(line)]
    parts += line.split(": ")
    parts += line.split()
    for part in dict.fromkeys(part.strip().strip(_LOOSE).removesuffix(".") for part in parts):
        name = re.sub(r"^(?:\./)+", "", part)
        if name and "\0" not in name and not name.startswith("/"):
            yield name
