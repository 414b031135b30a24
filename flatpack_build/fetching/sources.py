"""Every kind of source behind two functions: what does this text stand for now, and bring exactly that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatpack_build import gguf
from flatpack_build.errors import SourceError
from flatpack_build.fetching import git, http, hub, local, pypi, wheels
from flatpack_build.fetching.stream import Fetched
from flatpack_build.fs import temporary_folder
from flatpack_build.manifest.lock import LockedSource
from flatpack_build.manifest.source import FileSource, GitSource, HttpSource, HubSource, PypiSource, parse_source
from flatpack_build.params import FetchParams


@dataclass(frozen=True)
class Resolved:
    """A source locked, and the folder that holds exactly its files; ``None`` where none had to be downloaded."""

    locked: LockedSource
    folder: Path | None


def resolve_source(text: str, *, base: Path, work: Path) -> Resolved:
    """What the source ``text`` stands for now. Paths in it are relative to ``base``; ``work`` is an empty folder.

    Raises ``SourceError``; ``VerificationError`` for a GGUF that is damaged.
    """
    source = parse_source(text)
    out = work / "files"
    try:
        out.mkdir(parents=True)
        match source:
            case FileSource():
                fetched = local.resolve(source, base, out)
            case HttpSource():
                fetched = http.resolve(source, out, http.Client())
            case GitSource():
                fetched = git.resolve(source, out, work)
            case HubSource():
                fetched = hub.resolve(source, out, hub.Hub.from_environment())
            case PypiSource():
                fetched = pypi.resolve(source, out, work)
    except OSError as error:
        raise _unwritable(text, error) from error
    facts = fetched.facts or _facts(fetched, out)
    files, identity = dict(fetched.files), dict(fetched.identity)
    return Resolved(LockedSource(text, files, identity, fetched.size, facts), out if fetched.present else None)


def _facts(fetched: Fetched, out: Path) -> Mapping[str, int | str | float]:
    if not fetched.present:
        return {}
    models = [name for name in fetched.files if gguf.is_gguf(out / name)]
    return gguf.read_header(out / models[0]).facts() if len(models) == 1 else {}


def resolve_wheels(platform: str, python: str, requirements: Sequence[str], *, work: Path) -> wheels.ResolvedWheels:
    """The wheels that ``requirements`` come to on ``platform`` (as uv names it) with ``python`` (``3.11``), downloaded.

    ``work`` is an empty folder. Raises ``SourceError``.
    """
    try:
        return wheels.resolve_wheels(platform, python, requirements, work)
    except OSError as error:
        raise _unwritable(f"wheels for {platform}", error) from error


def fetch_source(params: FetchParams, inputs: Mapping[str, Path], out: Path) -> None:
    """Bring what ``params`` lock into ``out``, an empty folder. A ``file:`` source comes as input ``file``.

    Raises ``SourceError`` when it cannot be had, ``VerificationError`` when it is not what was locked.
    """
    try:
        with temporary_folder(out, prefix=".fetch-") as work:
            if params.source.startswith(wheels.PREFIX):
                wheels.fetch(params, out, work)
                return
            source = parse_source(params.source)
            match source:
                case FileSource():
                    local.fetch(params, inputs["file"], out)
                case HttpSource():
                    http.fetch(params, source, out, http.Client())
                case GitSource():
                    git.fetch(params, source, out, work)
                case HubSource():
                    hub.fetch(params, source, out, hub.Hub.from_environment())
                case PypiSource():
                    pypi.fetch(params, source, out, work)
    except OSError as error:
        raise _unwritable(params.source, error) from error


def _unwritable(source: str, error: OSError) -> SourceError:
    return SourceError(
        f"{source}: cannot be written: {error.strerror or error}",
        hint="is there space on the disk? is the folder yours?",
    )
