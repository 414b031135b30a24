"""Which entries of an archive may be unpacked at all, whoever signed it. Writes nothing; knows no manifest."""

from __future__ import annotations

from flatpack_build.box.limits import Limits
from flatpack_build.box.paths import path_problem, shown
from flatpack_build.box.tar import Kind, TarEntry
from flatpack_build.errors import BoxError

_REFUSED: dict[Kind, str] = {
    "symbolic link": "a symbolic link",
    "hard link": "a hard link",
    "device": "a device",
    "pipe": "a named pipe",
    "sparse file": "a sparse file",
    "other": "of a kind that no box holds",
}
_SPECIAL_MODES = (
    (0o4000, "setuid: it would run with the rights of its owner"),
    (0o2000, "setgid: it would run with the rights of its group"),
    (0o1000, "sticky"),
)


class Gate:
    """Looks at each entry of one archive in turn, before anything of it is read. The first is its top folder."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = 0
        self._names = 0
        self._top = ""

    def admit(self, entry: TarEntry) -> None:
        """Raise ``BoxError`` for an entry that is dangerous or too much."""
        self._count += 1
        if self._count > self._limits.entries:
            raise BoxError(f"the box has more than {self._limits.entries:,} files and folders in it")
        self._names += len(entry.path)
        if self._names > self._limits.names:
            raise BoxError(f"the paths in the box have more than {self._limits.names:,} characters together")
        name = shown(entry.path)
        if problem := path_problem(entry.path.removeprefix(f"{self._top}/") if self._top else entry.path):
            raise BoxError(f"the path {name} in the box {problem}")
        if refused := _REFUSED.get(entry.kind):
            raise BoxError(f"{name} in the box is {refused}", hint="a box holds plain files and folders only")
        for bit, meaning in _SPECIAL_MODES:
            if entry.mode & bit:
                raise BoxError(f"{name} in the box has mode {entry.mode:04o}, which is {meaning}")
        if not self._top:
            self._top = entry.path.partition("/")[0]
        elif not f"{entry.path}/".startswith(f"{self._top}/"):
            raise BoxError(f"{name} in the box stands outside its folder {shown(self._top)}")
        if entry.size > self._limits.file_size:
            raise BoxError(
                f"{name} in the box has {entry.size:,} bytes, and one file may have {self._limits.file_size:,}"
            )
