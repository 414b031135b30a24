"""``flatpack.lock``: every source with its immutable identity and its digests. Pure data and TOML; fetches nothing.

No host of a package registry or model hub stands in it: what is locked is *what* the bytes are, so that any mirror will
do to get them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeAlias

from flatpack_build.digest import Digest
from flatpack_build.errors import LockError, Place, SourceError
from flatpack_build.fs import atomic_write
from flatpack_build.manifest.source import FileSource, GitSource, HttpSource, HubSource, PypiSource, parse_source
from flatpack_build.params import FetchParams

VERSION = 1
HEADER = "made by `flatpack lock`; commit it"
_HINT = "make it anew with: flatpack lock <name>"
Fact: TypeAlias = int | str | float
WheelsKey: TypeAlias = tuple[str, str, tuple[str, ...]]
"""(platform, Python, requirements), as in ``LockedWheels.key``."""


@dataclass(frozen=True)
class LockedSource:
    """A source and what it stood for when it was locked.

    ``files``: path below the fetched folder -> sha256. Empty for a whole tree, whose digest is ``identity["tree"]``.
    ``identity``: the immutable name of it: ``commit``; ``wheel`` and ``wheel_sha256``. ``size``: bytes of all files.
    ``facts``: what a GGUF's header says (``GgufHeader.facts``); else empty.
    """

    source: str
    files: Mapping[str, str]
    identity: Mapping[str, str]
    size: int
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Whether it is a file of the user's, which the fetch step takes as input ``file``."""
        return self.source.lower().startswith("file:") or ":" not in self.source

    def params(self) -> FetchParams:
        """What the fetch step is asked for. Of a user's file only the name: where it lies does not change its bytes."""
        source = f"file:{next(iter(self.files))}" if self.is_file else self.source
        return FetchParams(source, dict(sorted(self.files.items())), dict(sorted(self.identity.items())), self.size)


@dataclass(frozen=True)
class LockedWheel:
    name: str
    version: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class LockedWheels:
    """The wheels that ``requirements`` come to on one platform (named as uv does) and Python (``3.11``)."""

    platform: str
    python: str
    requirements: tuple[str, ...]
    wheels: tuple[LockedWheel, ...]

    @property
    def key(self) -> WheelsKey:
        return self.platform, self.python, tuple(sorted(self.requirements))

    def params(self) -> FetchParams:
        """What the fetch step is asked for. The requirements are left out: the wheels are what they came to."""
        files = {wheel.filename: wheel.sha256 for wheel in self.wheels}
        return FetchParams(f"wheels:{self.platform}", dict(sorted(files.items())), {"python": self.python})


@dataclass(frozen=True)
class Lock:
    """``sources`` by their text in the manifest."""

    sources: Mapping[str, LockedSource]
    wheels: tuple[LockedWheels, ...] = ()

    def wheels_for(self, platform: str, python: str, requirements: Iterable[str]) -> LockedWheels | None:
        key = platform, python, tuple(sorted(requirements))
        return next((wheels for wheels in self.wheels if wheels.key == key), None)


class _Table:
    """One table of the file, read with types checked, so that an error can say which entry is damaged."""

    def __init__(self, value: object, where: str, file: str) -> None:
        self.where = where
        self.file = file
        if not isinstance(value, dict):
            self.fail("a table is expected")
        self.value: Mapping[str, object] = value

    def fail(self, reason: str) -> NoReturn:
        raise LockError(f"damaged: {self.where}: {reason}", place=Place(self.file), hint=_HINT)

    def only(self, *keys: str) -> None:
        if unknown := sorted(self.value.keys() - set(keys)):
            self.fail(f"unknown key {unknown[0]!r}")

    def text(self, key: str) -> str:
        value = self.value.get(key)
        return value if isinstance(value, str) and value else self.fail(f"{key!r} must be a text")

    def whole(self, key: str) -> int:
        value = self.value.get(key)
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return value if good and isinstance(value, int) else self.fail(f"{key!r} must be a whole number, at least 0")

    def tables(self, key: str) -> list[_Table]:
        value = self.value.get(key, [])
        if not isinstance(value, list):
            self.fail(f"{key!r} must be an array of tables")
        return [_Table(item, f"{self.where}{key} {number}", self.file) for number, item in enumerate(value, 1)]

    def texts(self, key: str) -> dict[str, str]:
        table = _Table(self.value.get(key, {}), f"{self.where}, {key}", self.file)
        return {name: table.text(name) for name in table.value}

    def facts(self, key: str) -> dict[str, Fact]:
        table = _Table(self.value.get(key, {}), f"{self.where}, {key}", self.file)
        facts: dict[str, Fact] = {}
        for name, value in table.value.items():
            if not isinstance(value, (int, str, float)) or isinstance(value, bool):
                table.fail(f"{name!r} must be a number or a text")
            facts[name] = value
        return facts

    def list_of_texts(self, key: str) -> tuple[str, ...]:
        value = self.value.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(f"{key!r} must be an array of texts")
        return tuple(value)

    def sha256(self, text: str) -> str:
        try:
            return Digest.parse(text)
        except ValueError as error:
            self.fail(str(error))

    def path(self, text: str) -> str:
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts or not path.parts or str(path) != text or "\\" in text:
            self.fail(f"{text!r} is no path below a folder")
        return text


def _source(table: _Table) -> LockedSource:
    table.only("source", "size", "files", "identity", "facts")
    files = {table.path(path): table.sha256(digest) for path, digest in table.texts("files").items()}
    identity = table.texts("identity")
    if not files and "tree" not in identity:
        table.fail("neither files nor a tree")
    if "tree" in identity:
        table.sha256(identity["tree"])
    source = table.text("source")
    _check_identity(table, source, files, identity)
    return LockedSource(source, files, identity, table.whole("size"), table.facts("facts"))


def _check_identity(table: _Table, text: str, files: Mapping[str, str], identity: Mapping[str, str]) -> None:
    """Fail unless there is all that fetching the source will ask for."""
    try:
        source = parse_source(text)
    except SourceError as error:
        table.fail(error.message)
    if isinstance(source, FileSource | HttpSource | HubSource) and (len(files) != 1 or "/" in "".join(files)):
        table.fail("one file, not in a folder, is expected")
    needed: tuple[str, ...] = ("commit",) if isinstance(source, GitSource | HubSource) else ()
    needed = ("wheel", "wheel_sha256") if isinstance(source, PypiSource) else needed
    if missing := [name for name in needed if name not in identity]:
        table.fail(f"its identity has no {missing[0]!r}")


def _wheels(table: _Table) -> LockedWheels:
    table.only("platform", "python", "requirements", "wheel")
    wheels = []
    for item in table.tables("wheel"):
        item.only("name", "version", "filename", "sha256")
        filename = item.path(item.text("filename"))
        if "/" in filename or not filename.endswith(".whl"):
            item.fail(f"{filename!r} is no wheel's name")
        wheels.append(LockedWheel(item.text("name"), item.text("version"), filename, item.sha256(item.text("sha256"))))
    requirements = table.list_of_texts("requirements")
    return LockedWheels(table.text("platform"), table.text("python"), requirements, tuple(wheels))


def read_lock(path: Path) -> Lock:
    """Read a lock file. Raises ``LockError`` when it is missing, damaged or of a later version."""
    try:
        data = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        raise LockError("there is no such lock", place=Place(str(path)), hint=_HINT) from error
    except OSError as error:
        raise LockError(f"cannot be read: {error.strerror or error}", place=Place(str(path))) from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or a number with thousands of digits
        hint = f"a merge may have left it half done; {_HINT}"
        raise LockError(f"damaged: {error}", place=Place(str(path), *_position(str(error))), hint=hint) from error
    top = _Table(data, "", str(path))
    version = data.get("version")
    if version != VERSION:
        later = isinstance(version, int) and version > VERSION
        raise LockError(
            f"its version is {version!r}, this program reads {VERSION}",
            place=Place(str(path)),
            hint="update flatpack-build" if later else _HINT,
        )
    top.only("version", "source", "wheels")
    sources: dict[str, LockedSource] = {}
    for table in top.tables("source"):
        source = table.text("source")
        if source in sources:
            table.fail(f"{source!r} stands there twice")
        sources[source] = _source(table)
    return Lock(sources, tuple(_wheels(table) for table in top.tables("wheels")))


def _position(message: str) -> tuple[int, int]:
    """tomllib says where only in words."""
    words = message.replace(",", " ").replace(")", " ").split()
    try:
        return int(words[words.index("line") + 1]), int(words[words.index("column") + 1])
    except (ValueError, IndexError):
        return 0, 0


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock file, whole or not at all: the same lock, the same bytes. Raises ``OSError``."""
    import tomlkit  # slow to import, and only `flatpack lock` writes

    document = tomlkit.document()
    document.add(tomlkit.comment(HEADER))
    document.add("version", tomlkit.item(VERSION))
    sources, wheels = tomlkit.aot(), tomlkit.aot()
    for _, locked in sorted(lock.sources.items()):
        table = tomlkit.table()
        table.add("source", locked.source)
        table.add("size", locked.size)
        parts: tuple[tuple[str, Mapping[str, Fact]], ...] = (
            ("files", locked.files), ("identity", locked.identity), ("facts", locked.facts),
        )  # fmt: skip
        for key, part in parts:
            if part:
                inner = tomlkit.table()
                for name, value in sorted(part.items()):
                    inner.add(tomlkit.key(name), value)
                table.add(key, inner)
        sources.append(table)
    for group in sorted(lock.wheels, key=lambda group: group.key):
        table = tomlkit.table()
        table.add("platform", group.platform)
        table.add("python", group.python)
        table.add("requirements", tomlkit.item(sorted(group.requirements)))
        items = tomlkit.aot()
        for wheel in sorted(group.wheels, key=lambda wheel: wheel.filename):
            item = tomlkit.table()
            for name in ("name", "version", "filename", "sha256"):
                item.add(name, getattr(wheel, name))
            items.append(item)
        if group.wheels:
            table.add("wheel", items)
        wheels.append(table)
    if lock.sources:
        document.add("source", sources)
    if lock.wheels:
        document.add("wheels", wheels)
    atomic_write(path, tomlkit.dumps(document).encode())


def check_lock(lock: Lock, sources: Collection[str], wheels: Collection[WheelsKey], file: str, name: str = "") -> None:
    """Compare a lock with what a manifest needs: its sources, and wheels as (platform, Python, requirements).

    Raises ``LockError`` that lists what is missing and what nobody needs. ``file`` is the lock's path, ``name`` the
    flatpack's, for the hint.
    """
    needed = {(platform, python, tuple(sorted(items))) for platform, python, items in wheels}
    held = {group.key for group in lock.wheels}
    missing = sorted(set(sources) - lock.sources.keys()) + [_wheels_text(key) for key in sorted(needed - held)]
    extra = sorted(lock.sources.keys() - set(sources)) + [_wheels_text(key) for key in sorted(held - needed)]
    if not missing and not extra:
        return
    lines = ["does not match the manifest"]
    if missing:
        lines += ["the manifest needs and the lock lacks:", *(f"  {item}" for item in missing)]
    if extra:
        lines += ["the lock has and the manifest does not name:", *(f"  {item}" for item in extra)]
    raise LockError("\n  ".join(lines), place=Place(file), hint=f"run: flatpack lock {name or '<name>'}")


def _wheels_text(key: WheelsKey) -> str:
    platform, python, requirements = key
    return f"wheels for {platform}, Python {python}: {', '.join(requirements)}"
