"""``Project``: the folder one works in, its settings and its flatpacks by name. Reads no flatpack and no profile.

It stands on the way to "nothing to do", so it imports nothing heavy: the settings are checked by hand.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flatpack_build.errors import ManifestError, UsageError
from flatpack_build.limits import AGE_WANTED, SIZE_WANTED, Limits, parse_age, parse_size
from flatpack_build.machine import Capacity, machine
from flatpack_build.manifest.document import Document, read_document
from flatpack_build.manifest.wording import describe, did_you_mean, toml_text

SETTINGS_FILE = "pyproject.toml"
MANIFEST_FILE = "flatpack.toml"
TABLE = ("tool", "flatpack-build")
NOT_FLATPACKS = frozenset({"template", "legacy"})
"""Folders of a warehouse that are no flatpacks."""
TRUST_MODES = ("enforce", "warn", "off")

_FLATPACK_NAME = re.compile(r"[\w-]+")
_MENTIONS_TABLE = re.compile(r"flatpack-build[\"']?\s*(?:\.\s*[\w-]+\s*)?[\].=]")


@dataclass(frozen=True)
class Settings:
    """``[tool.flatpack-build]`` of ``pyproject.toml``. Paths: relative to the project, absolute, or from ``~``."""

    warehouse: str = "warehouse"
    targets: str = "targets"
    """The project's own profiles; the folder need not exist."""
    build: str = "build"
    dist: str = "dist"
    cache: str = ""
    """The store and the action cache; empty: the user's cache folder. ``FLATPACK_CACHE`` wins."""
    cache_max_size: str = ""
    """What the cache may hold, such as ``20GB``; empty: no limit."""
    cache_max_age: str = ""
    """How long the cache keeps what nobody uses, such as ``30d``; empty: no limit."""
    signing_key: str = ""
    """The private key, a PEM file; empty: ``keys/development.pem``. ``FLATPACK_SIGNING_KEY`` wins."""
    model_signing_key: str = ""
    """An EC key, a PEM file, to make OpenSSF model signatures with; empty: none. ``FLATPACK_MODEL_SIGNING_KEY`` wins."""
    trusted_keys: tuple[str, ...] = ()
    """Public keys, PEM files, that may have signed what comes in."""
    trust: str = ""
    """What happens to a box that no trusted key signed: enforce, warn or off; empty: enforce. ``FLATPACK_TRUST`` wins."""
    jobs: int = 0
    """Actions at once, each on one core; 0: as many as there are cores."""
    memory_mb: int = 0
    """What all actions together may need, in MB; 0: nine tenths of what the machine, or the container, has."""


_EXAMPLES: Mapping[str, str | int | tuple[str, ...]] = {
    "warehouse": "warehouse",
    "targets": "targets",
    "build": "build",
    "dist": "dist",
    "cache": "~/.cache/flatpack-build",
    "cache_max_size": "20GB",
    "cache_max_age": "30d",
    "signing_key": "keys/release.pem",
    "model_signing_key": "keys/model-signing.pem",
    "trusted_keys": ("keys/vendor.pub.pem",),
    "trust": "enforce",
    "jobs": 4,
    "memory_mb": 4000,
}
_QUANTITIES: Mapping[str, tuple[str, Callable[[str], float]]] = {
    "cache_max_size": (SIZE_WANTED, parse_size),
    "cache_max_age": (AGE_WANTED, parse_age),
}


@dataclass(frozen=True)
class Project:
    """All paths are absolute; none of them need exist."""

    root: Path
    settings: Settings = Settings()

    @cached_property
    def warehouse(self) -> Path:
        return self._path(self.settings.warehouse)

    @cached_property
    def targets(self) -> Path:
        return self._path(self.settings.targets)

    @cached_property
    def build(self) -> Path:
        return self._path(self.settings.build)

    @cached_property
    def stamps(self) -> Path:
        """What finished builds looked at."""
        return self.build / "stamps"

    @cached_property
    def dist(self) -> Path:
        return self._path(self.settings.dist)

    @cached_property
    def cache(self) -> Path:
        if self.settings.cache:
            return self._path(self.settings.cache)
        import platformdirs  # costs some milliseconds, and only where no cache is set

        return Path(platformdirs.user_cache_dir("flatpack-build"))

    @property
    def cache_limits(self) -> Limits:
        size, age = self.settings.cache_max_size, self.settings.cache_max_age
        return Limits(parse_size(size) if size else None, parse_age(age) if age else None)

    @property
    def signing_key(self) -> Path:
        return self._path(self.settings.signing_key or "keys/development.pem")

    @property
    def public_key(self) -> Path:
        """The public key beside the signing key: ``x.pub.pem`` for ``x.pem``."""
        private = self.signing_key
        return private.with_name(f"{private.name.removesuffix('.pem')}.pub.pem")

    @property
    def model_signing_key(self) -> Path | None:
        return self._path(self.settings.model_signing_key) if self.settings.model_signing_key else None

    @property
    def trusted_keys(self) -> tuple[Path, ...]:
        return tuple(self._path(key) for key in self.settings.trusted_keys)

    @property
    def jobs(self) -> int:
        """How many actions may run at once: at least 1."""
        return self.capacity.cores

    @cached_property
    def capacity(self) -> Capacity:
        """What all actions together may take."""
        return machine(cores=self.settings.jobs, memory_mb=self.settings.memory_mb)

    def flatpacks(self) -> list[str]:
        """The names of the warehouse's flatpacks, sorted; reads none. Raises ``UsageError`` without a warehouse."""
        try:
            with os.scandir(self.warehouse) as folders:
                found = [folder.name for folder in folders if not folder.name.startswith(".") and folder.is_dir()]
        except OSError as error:
            raise UsageError(
                f"the warehouse {self.warehouse} cannot be read: {error.strerror}",
                hint="make that folder, or set warehouse in [tool.flatpack-build] of pyproject.toml",
            ) from error
        return sorted(name for name in found if name not in NOT_FLATPACKS and self._has_manifest(name))

    def flatpack_folder(self, name: str) -> Path:
        """The folder of a flatpack. Raises ``UsageError`` when there is none of that name."""
        if _FLATPACK_NAME.fullmatch(name) and name not in NOT_FLATPACKS and self._has_manifest(name):
            return self.warehouse / name
        known = self.flatpacks()
        if name in NOT_FLATPACKS:
            message = f"{name!r} is no flatpack"
        elif os.sep not in name and not _FLATPACK_NAME.fullmatch(name) and self._has_manifest(name):
            message = f"the folder {self.warehouse / name} cannot be a flatpack: its name"
            raise UsageError(
                f"{message} has more in it than letters, digits, - and _",
                hint="rename it, or take its flatpack.toml out of the warehouse",
            )
        elif (self.warehouse / name).is_dir() and _FLATPACK_NAME.fullmatch(name):
            message = f"the folder {self.warehouse / name} has no flatpack.toml"
        else:
            message = f"there is no flatpack {name!r} in {self.warehouse}{did_you_mean(name, known)}"
        shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
        raise UsageError(message, hint=f"known flatpacks: {shown}" if known else "the warehouse is empty")

    def has_flatpack(self, name: str) -> bool:
        return bool(_FLATPACK_NAME.fullmatch(name)) and name not in NOT_FLATPACKS and self._has_manifest(name)

    def _has_manifest(self, name: str) -> bool:
        return (self.warehouse / name / MANIFEST_FILE).is_file()

    def _path(self, text: str) -> Path:
        return Path(os.path.abspath(self.root / Path(text).expanduser()))


def find_project(start: Path, environ: Mapping[str, str] = os.environ) -> Project:
    """The project that ``start`` lies in: the nearest folder upwards whose ``pyproject.toml`` has
    ``[tool.flatpack-build]``, or that holds a ``warehouse`` folder.

    Raises ``UsageError`` when there is none, or its path is no text; ``ManifestError`` for settings that are not valid.
    """
    start = Path(os.path.abspath(start))
    for folder in (start, *start.parents):
        settings = read_settings(folder / SETTINGS_FILE)
        if settings is None and (folder / "warehouse").is_dir():
            settings = Settings()
        if settings is not None:
            _refuse_odd(folder)
            return Project(folder, _with_environment(settings, environ))
    raise UsageError(
        f"{start} is not inside a flatpack project",
        hint='"flatpack init" makes one here; a project has a warehouse folder, or [tool.flatpack-build] in its '
        "pyproject.toml",
    )


def _refuse_odd(folder: Path) -> None:
    try:
        os.fspath(folder).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(folder).decode(errors="replace")
        raise UsageError(
            f"the path of the project, {shown}, is not UTF-8", hint="give that folder another name"
        ) from error


def find_project_or_user(start: Path, environ: Mapping[str, str] = os.environ) -> Project:
    """As ``find_project``; outside of any project one with nothing set, whose cache is the user's own.

    Raises ``ManifestError``.
    """
    try:
        return find_project(start, environ)
    except UsageError:
        return Project(Path(os.path.abspath(start)), _with_environment(Settings(), environ))


def read_settings(file: Path) -> Settings | None:
    """The settings in a ``pyproject.toml``; ``None`` when it has none or does not exist. Raises ``ManifestError``."""
    try:
        if not _MENTIONS_TABLE.search(file.read_text(encoding="utf-8", errors="replace")):
            return None  # so a broken file of somebody else's, further up, stops nobody
    except OSError:
        return None
    document = read_document(file)
    table: object = document.data
    for key in TABLE:
        table = table.get(key) if isinstance(table, dict) else None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ManifestError(f"expected a table, got {describe(table)}", place=document.value_place(TABLE))
    values: dict[str, object] = {}
    for key, value in table.items():
        values[key] = _checked(document, key, value)
    return Settings(**values)  # type: ignore[arg-type]  # each was checked against its field


def _checked(document: Document, key: str, value: object) -> object:
    known = [field.name for field in dataclasses.fields(Settings)]
    if key not in known:
        raise ManifestError(
            f"unknown key {key!r} in [tool.flatpack-build]{did_you_mean(key, known)}",
            place=document.key_place((*TABLE, key)),
            hint=f"known settings: {', '.join(known)}",
        )
    example = _EXAMPLES[key]
    if isinstance(example, tuple):
        expected = "a list of texts"
        good = isinstance(value, list) and all(isinstance(entry, str) and entry for entry in value)
        value = tuple(value) if isinstance(value, list) else value
    elif isinstance(example, int):
        expected = "a whole number, 0 or more"
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    elif key == "trust":
        expected = '"enforce", "warn" or "off"'
        good = value in TRUST_MODES
    else:
        optional = not getattr(Settings, key)
        expected = "a text" if optional else "a text that is not empty"
        good = isinstance(value, str) and (optional or bool(value)) and "\0" not in value
        if good and value and key in _QUANTITIES:
            expected, parse = _QUANTITIES[key]
            try:
                parse(str(value))
            except ValueError:
                good = False
    if not good:
        raise ManifestError(
            f"expected {expected}, got {describe(value)}; for example: {key} = {toml_text(example)}",
            place=document.value_place((*TABLE, key)),
        )
    return value


def _with_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """An environment variable wins over the file, so a CI job can point elsewhere without editing it."""
    return dataclasses.replace(
        settings,
        cache=environ.get("FLATPACK_CACHE") or settings.cache,
        signing_key=environ.get("FLATPACK_SIGNING_KEY") or settings.signing_key,
        model_signing_key=environ.get("FLATPACK_MODEL_SIGNING_KEY") or settings.model_signing_key,
    )
