"""Write the tree of a git commit as plain files: no links, no submodules, nothing outside. Knows no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flatpack_build import events
from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError
from flatpack_build.tree import Kind, Tree, TreeEntry

if TYPE_CHECKING:
    import pygit2

_SUBMODULE, _LINK, _EXECUTABLE = 0o160000, 0o120000, 0o100755
_MAX_LINKS = 40  # as many as Linux follows
_MAX_TARGET = 4096  # bytes of a link: as many as Linux takes
_LFS = b"version https://git-lfs.github.com/spec/v1"


@dataclass(frozen=True, slots=True)
class ExportLimits:
    """How much of a repository is written out."""

    entries: int = 500_000
    """Files and folders. Links to folders are copied, and one tree may stand in many places, so a few kilobytes of git
    can stand for more of both than a disk holds."""
    depth: int = 100
    """Folders in one another: as many as a box takes."""
    file_size: int = 2 << 30
    """Bytes of one file: libgit2 has all of it in memory."""


class _Exporter:
    def __init__(self, source: str, root: pygit2.Tree, database: pygit2.Odb, out: Path, limits: ExportLimits) -> None:
        import pygit2  # loads libgit2

        self.git = pygit2
        self._limits = limits
        self._database = database
        self._count = 0
        self._source = source
        self._root = root
        self._out = out
        self.entries: list[TreeEntry] = []

    def fail(self, path: str, reason: str, hint: str = "") -> SourceError:
        return SourceError(f"{self._source}: {path!r} {reason}", hint=hint)

    def find(self, path: str, shown: str, links: int = 0) -> tuple[pygit2.Tree | pygit2.Blob, tuple[str, ...]]:
        """What stands at ``path`` (from the repository's top), links followed, and where that really is."""
        place: list[str] = []
        node: pygit2.Tree | pygit2.Blob = self._root
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        while todo:
            part = todo.pop()
            if part == "..":
                if not place:
                    raise self.fail(shown, "is a link that leads out of the repository", "replace the link by a file")
                place.pop()
                node = self._walk(place)
                continue
            if not isinstance(node, self.git.Tree) or part not in node:
                raise self.fail(shown, "is not in the repository, or a link to nothing")
            child: pygit2.Object = node[part]
            if child.filemode == _SUBMODULE:
                raise self._submodule(shown)
            assert isinstance(child, (self.git.Tree, self.git.Blob))
            if isinstance(child, self.git.Blob) and child.filemode == _LINK:
                links += 1
                target = self.data(child, shown, _MAX_TARGET).decode(errors="surrogateescape")
                if links > _MAX_LINKS or target.startswith("/") or "\0" in target:
                    why = (
                        "is a link in a circle" if links > _MAX_LINKS else "is a link that leads out of the repository"
                    )
                    raise self.fail(shown, why, "replace the link by a file")
                todo += [step for step in reversed(target.split("/")) if step not in ("", ".")]
                continue
            place.append(part)
            node = child
        return node, tuple(place)

    def _walk(self, place: list[str]) -> pygit2.Tree:
        node = self._root
        for part in place:
            child = node[part]
            assert isinstance(child, self.git.Tree)
            node = child
        return node

    def _submodule(self, path: str) -> SourceError:
        hint = "name the submodule's own repository as another source"
        return self.fail(path, "is a submodule, which is not fetched", hint)

    def name(self, entry: pygit2.Object, folder: str) -> str:
        try:
            name = (entry.raw_name or b"").decode()
        except UnicodeDecodeError as error:
            raise self.fail(f"{folder}{entry.raw_name!r}", "has a name that is not UTF-8") from error
        if name in ("", ".", "..") or name.lower() == ".git" or "/" in name or "\\" in name:
            raise self.fail(folder + name, "has a forbidden name")
        return name

    def count(self, path: str) -> None:
        """To be called for each file and folder."""
        self._count += 1
        limits = self._limits
        if self._count > limits.entries:
            raise self.fail(path, f"is one file or folder too many: more than {limits.entries} cannot be fetched")
        if path.count("/") >= limits.depth:
            raise self.fail(path, f"is too deep: more than {limits.depth} folders in one another")

    def data(self, blob: pygit2.Blob, path: str, limit: int) -> bytes:
        # Asked of the database: asking the blob would unpack it.
        _, size = self._database.read_header(blob.id)
        if size > limit:
            raise self.fail(path, f"is too large: {size} bytes, at most {limit}", "name a source that is no repository")
        return blob.data

    def blob(self, blob: pygit2.Blob, executable: bool, path: str) -> None:
        self.count(path)
        data = self.data(blob, path, self._limits.file_size)
        target = self._out / path
        with open(target, "xb") as file:
            file.write(data)
        if executable:
            target.chmod(0o755)
        if len(data) < 1024 and data.startswith(_LFS):
            events.note(f"{self._source}: {path} is only a pointer to a file in Git LFS, which is not fetched")
        kind: Kind = "exec" if executable else "file"
        self.entries.append(TreeEntry(path, kind, len(data), Digest.of_bytes(data)))
        if len(self.entries) % 100 == 0:
            events.progress(len(self.entries), None, "files")

    def tree(self, tree: pygit2.Tree, prefix: str, place: tuple[str, ...], above: tuple[str, ...]) -> None:
        """``prefix``: the path below ``out``; ``place``: the real one in the repository; ``above``: trees around it."""
        if str(tree.id) in above:
            raise self.fail(prefix.rstrip("/"), "is a link to a folder that it stands in", "remove the link")
        around = (*above, str(tree.id))
        for entry in tree:
            name = self.name(entry, prefix)
            path = prefix + name
            if entry.filemode == _SUBMODULE:
                raise self._submodule(path)
            assert isinstance(entry, (self.git.Tree, self.git.Blob))
            node, where = entry, (*place, name)
            if entry.filemode == _LINK:
                node, where = self.find("/".join(where), path)
            if isinstance(node, self.git.Tree):
                self.count(path)
                (self._out / path).mkdir()
                self.tree(node, path + "/", where, around)
            else:
                self.blob(node, node.filemode == _EXECUTABLE, path)


_LIMITS = ExportLimits()


def export(
    source: str,
    commit: pygit2.Commit,
    path: str,
    database: pygit2.Odb,
    out: Path,
    limits: ExportLimits = _LIMITS,
) -> tuple[dict[str, str], Tree]:
    """Write ``path`` of ``commit`` (empty: everything), which lies in ``database``, below ``out``; a file under its own
    name.

    Gives the file's sha256 by its name (empty for a folder), and the tree that was written. Links become copies of
    what they lead to. Raises ``SourceError`` for submodules and for links that lead out, in circles or nowhere,
    and for what is too much, too large or too deep.
    """
    exporter = _Exporter(source, commit.tree, database, out, limits)
    node, place = exporter.find(path, path)
    if isinstance(node, exporter.git.Tree):
        exporter.tree(node, "", place, ())
        if not exporter.entries:
            raise SourceError(f"{source}: there is nothing in it")
        return {}, Tree.of(exporter.entries)
    assert isinstance(node, exporter.git.Blob)
    name = path.rpartition("/")[2]
    exporter.blob(node, node.filemode == _EXECUTABLE, name)
    return {name: exporter.entries[0].digest}, Tree.of(exporter.entries)
