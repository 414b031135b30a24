"""A folder of trusted public keys and its ``trust.toml``, which says what each may sign. Knows no boxes.

A key that lies in the folder and is not named in ``trust.toml`` may sign everything, unless it is a development key:
these need a line that says so. A name in ``trust.toml`` whose key is not in the folder trusts nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatpack_build import fs
from flatpack_build.box.keys import DEVELOPMENT_MARK, PublicKey, load_public_key
from flatpack_build.box.trust import EVERYTHING, Scope, TrustedKey
from flatpack_build.errors import KeyFileError, ManifestError, Place, UsageError
from flatpack_build.manifest.document import Document, read_document
from flatpack_build.manifest.wording import describe, did_you_mean
from flatpack_build.store.locks import Lock

FILE = "trust.toml"
SUFFIX = ".pub.pem"

_HEAD = """\
# Which of the keys in this folder may sign which flatpacks; written by "flatpack trust".
"""
_NAME = re.compile(r"[\w-][\w.-]{0,63}")
_PATTERN = re.compile(r"[\w*?\[\]!^-]+")
_SHORTEST_ID = 8
_FIELDS = ("name", "id", "flatpacks", "development")


@dataclass(frozen=True)
class TrustLine:
    """One ``[[key]]`` of ``trust.toml``. ``development``: that it is a development key was seen and accepted."""

    name: str
    key_id: str
    flatpacks: tuple[str, ...]
    development: bool


class TrustFolder:
    """``folder`` need not exist. One of the ``user`` is refused where everybody could put a key into it."""

    def __init__(self, folder: Path, scope: Scope) -> None:
        self.folder = folder
        self.scope = scope

    def keys(self) -> tuple[list[TrustedKey], list[PublicKey]]:
        """What is trusted, sorted by name, and the development keys that lie there without being trusted.

        Raises ``KeyFileError`` and ``ManifestError``: a folder that cannot be understood trusts nobody.
        """
        lines = {line.key_id: line for line in self._lines()}
        trusted, others = [], []
        for path in self._files():
            key = load_public_key(path)
            line = lines.get(key.key_id)
            if key.development and not (line and line.development):
                others.append(key)
                continue
            line = line or TrustLine(_stem(path), key.key_id, EVERYTHING, development=False)
            trusted.append(TrustedKey(line.name, key, line.flatpacks, self.scope))
        return sorted(trusted, key=lambda each: each.name), others

    def add(self, path: Path, *, name: str | None, flatpacks: Sequence[str], development: bool) -> TrustedKey:
        """Trust the key in ``path`` for ``flatpacks``; one that is trusted already is trusted for these from now on.

        Raises ``UsageError`` for a name that is taken or a development key that nobody asked for.
        """
        key = load_public_key(path)
        if key.development and not development:
            raise UsageError(
                f"{path} is a development key: whoever has the project it was made for can sign with it",
                hint="add --development if it is to be trusted all the same",
            )
        for pattern in flatpacks:
            if not _PATTERN.fullmatch(pattern):
                raise UsageError(f"{pattern!r} is no name of a flatpack", hint="a name, or a pattern such as 'chat-*'")
        with self._changing():
            lines = self._lines()
            known = {line.key_id: line for line in lines} | {
                each.key.key_id: TrustLine(each.name, each.key.key_id, each.flatpacks, each.key.development)
                for each in self.keys()[0]
            }
            before = known.pop(key.key_id, None)
            chosen = name or (before.name if before else _stem(path))
            if not _NAME.fullmatch(chosen):
                raise UsageError(f"{chosen!r} cannot be the name of a key", hint="--name: letters, digits, . _ and -")
            if any(line.name == chosen for line in known.values()):
                raise UsageError(f"another key is trusted by the name of {chosen!r}", hint="choose one with --name")
            file = self.folder / f"{chosen}{SUFFIX}"
            if file.exists() and load_public_key(file).key_id != key.key_id:
                raise UsageError(f"{file} is another key", hint="choose another name with --name")
            line = TrustLine(chosen, key.key_id, tuple(flatpacks) or EVERYTHING, key.development)
            mark = f"{DEVELOPMENT_MARK}\n" if key.development else ""
            old = [file for file in self._files() if load_public_key(file).key_id == key.key_id]
            # First what limits the key, then the key: a command cut short trusts nobody with too much.
            self._write([each for each in lines if each.key_id != key.key_id] + [line])
            fs.atomic_write(file, (mark + _pem(key)).encode(), durable=True)
            for each in old:
                if each != file:
                    each.unlink()
        return TrustedKey(chosen, load_public_key(file), line.flatpacks, self.scope)

    def find(self, wanted: str) -> list[PublicKey]:
        """The keys in the folder, trusted or not, of that name or with an id that begins so."""
        names = {line.key_id: line.name for line in self._lines()}
        keys = [load_public_key(path) for path in self._files()]
        named = [key for key in keys if wanted == names.get(key.key_id, _stem(Path(key.source)))]
        by_id = [key for key in keys if len(wanted) >= _SHORTEST_ID and key.key_id.startswith(wanted.lower())]
        return named or by_id

    def remove(self, key: PublicKey) -> None:
        """Trust ``key``, which ``find`` gave, no longer."""
        with self._changing():
            for path in self._files():
                if load_public_key(path).key_id == key.key_id:
                    path.unlink()
            lines = self._lines()
            kept = [line for line in lines if line.key_id != key.key_id]
            if len(kept) != len(lines):
                self._write(kept)

    def _files(self) -> list[Path]:
        try:
            files = sorted(path for path in self.folder.iterdir() if path.suffix == ".pem" and path.name[0] != ".")
            if self.scope == "user" and os.name == "posix":
                for path in (self.folder, *files):
                    if path.stat().st_mode & stat.S_IWOTH:
                        raise KeyFileError(
                            "everybody on this machine can change who is trusted",
                            place=Place(str(path)),
                            hint=f"chmod o-w {path}",
                        )
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise KeyFileError(
                f"the trusted keys cannot be read: {error.strerror}", place=Place(str(self.folder))
            ) from None
        return files

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with Lock(self.folder / ".lock"):
                yield
        except OSError as error:
            raise KeyFileError(
                f"the trusted keys cannot be changed: {error.strerror}", place=Place(str(self.folder))
            ) from error

    def _lines(self) -> list[TrustLine]:
        file = self.folder / FILE
        if not file.exists():
            return []
        document = read_document(file)
        for key in document.data:
            if key != "key":
                raise ManifestError(f"unknown key {key!r}{did_you_mean(key, ['key'])}", place=document.key_place([key]))
        tables = document.data.get("key", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ManifestError("expected [[key]] tables", place=document.value_place(["key"]))
        return [_line(document, number, table) for number, table in enumerate(tables)]

    def _write(self, lines: Sequence[TrustLine]) -> None:
        """Change what is different and leave the rest of the file, a person's comments too, as it is."""
        import tomlkit  # slow to load, and only for a change
        from tomlkit.items import AoT

        file = self.folder / FILE
        document = tomlkit.parse(file.read_text(encoding="utf-8") if file.exists() else _HEAD)
        tables = document.get("key")
        if not isinstance(tables, AoT):  # there are none yet, or somebody wrote them on one line
            given = document.pop("key", None) or []
            document["key"] = tomlkit.aot()
            tables = document["key"]
            assert isinstance(tables, AoT)
            for inline in given:
                own = tomlkit.table()
                own.update(inline)
                tables.append(own)
        wanted = {line.key_id: line for line in lines}
        for number in reversed(range(len(tables))):
            if str(tables[number]["id"]).lower() not in wanted:
                del tables[number]
        there = {str(table["id"]).lower(): table for table in tables}
        for key_id, line in wanted.items():
            table = there.get(key_id)
            if table is None:
                table = tomlkit.table()
                tables.append(table)
            values = {"name": line.name, "id": key_id, "flatpacks": list(line.flatpacks)}
            for field, value in (values | ({"development": True} if line.development else {})).items():
                if table.get(field) != value:
                    table[field] = value
        if not tables:
            del document["key"]
        fs.atomic_write(file, tomlkit.dumps(document).encode(), durable=True)


def _line(document: Document, number: int, table: dict[str, object]) -> TrustLine:
    def fail(field: str, expected: str) -> ManifestError:
        place = document.value_place(["key", number, field])
        got = f", got {describe(table[field])}" if field in table else ""
        return ManifestError(f"{field}: expected {expected}{got}", place=place)

    for field in table:
        if field not in _FIELDS:
            raise ManifestError(
                f"unknown key {field!r}{did_you_mean(field, _FIELDS)}",
                place=document.key_place(["key", number, field]),
            )
    name, key_id = table.get("name"), table.get("id")
    flatpacks, development = table.get("flatpacks", list(EVERYTHING)), table.get("development", False)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise fail("name", "a name of letters, digits, . _ and -")
    if not isinstance(key_id, str) or not re.fullmatch("[0-9a-fA-F]{64}", key_id):
        raise fail("id", "the key's id, 64 hexadecimal characters (flatpack trust list shows it)")
    patterns = [item for item in flatpacks if isinstance(item, str)] if isinstance(flatpacks, list) else []
    if not isinstance(flatpacks, list) or len(patterns) != len(flatpacks):
        raise fail("flatpacks", "a list of names or patterns")
    if not isinstance(development, bool):
        raise fail("development", "true or false")
    return TrustLine(name, key_id.lower(), tuple(patterns), development)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".pem").removesuffix(".pub")


def _pem(key: PublicKey) -> str:
    from cryptography.hazmat.primitives import serialization  # heavy, and only for a change

    return key.rsa.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
