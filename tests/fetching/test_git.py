from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pygit2
import pytest

from flatpack_build import fs
from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError, VerificationError
from flatpack_build.fetching import git, git_tree
from flatpack_build.fetching.stream import Fetched
from flatpack_build.manifest.source import GitSource
from flatpack_build.params import FetchParams
from flatpack_build.tree import Kind, Tree, TreeEntry
from tests.fetching.server import Exchange, Request, Site, running

AUTHOR = pygit2.Signature("A", "a@example.org", 1_700_000_000, 0)
FILE, EXEC, LINK, MODULE = (
    pygit2.enums.FileMode.BLOB,
    pygit2.enums.FileMode.BLOB_EXECUTABLE,
    pygit2.enums.FileMode.LINK,
    pygit2.enums.FileMode.COMMIT,
)


class Origin:
    """A repository that a test fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = pygit2.init_repository(str(folder), bare=True, initial_head="main")

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def commit(self, files: dict[str, tuple[bytes, int]], branch: str = "main") -> str:
        """A commit that holds exactly ``files``: path -> bytes and mode."""
        index = pygit2.Index()
        for path, (data, mode) in files.items():
            oid = pygit2.Oid(hex="1" * 40) if mode == MODULE else self.repository.create_blob(data)
            index.add(pygit2.IndexEntry(path, oid, pygit2.enums.FileMode(mode)))
        name = f"refs/heads/{branch}"
        parents = [self.repository.references[name].target] if name in self.repository.references else []
        tree = index.write_tree(self.repository)
        return str(self.repository.create_commit(name, AUTHOR, AUTHOR, "a commit", tree, parents))


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin repo")


def resolve(origin: Origin, rev: str, out: Path, path: str = "") -> Fetched:
    return git.resolve(GitSource(origin.url, rev, path), out, out.parent / f"work-{os.urandom(4).hex()}", {})


def content(out: Path) -> dict[str, bytes]:
    return {path: (out / path).read_bytes() for path, _ in fs.walk_files(out)}


def tree_of(out: Path) -> Tree:
    entries = []
    for path, entry in fs.walk_files(out):
        kind: Kind = "exec" if entry.stat().st_mode & 0o100 else "file"
        entries.append(TreeEntry(path, kind, entry.stat().st_size, Digest.of_file(Path(entry.path))))
    return Tree.of(entries)


def test_a_branch_is_resolved_and_exported(origin: Origin, out: Path) -> None:
    origin.commit({"old.txt": (b"old", FILE)})
    commit = origin.commit({"a.txt": (b"a", FILE), "bin/run": (b"#!/bin/sh\n", EXEC), "bin/x/y": (b"", FILE)})
    fetched = resolve(origin, "main", out)
    assert content(out) == {"a.txt": b"a", "bin/run": b"#!/bin/sh\n", "bin/x/y": b""}
    assert os.access(out / "bin/run", os.X_OK)
    assert not (out / "a.txt").stat().st_mode & 0o111
    assert fetched.identity == {"commit": commit, "tree": tree_of(out).digest}
    assert fetched.files == {}
    assert fetched.size == 11


def test_every_way_to_name_a_commit(origin: Origin, tmp_path: Path) -> None:
    first = origin.commit({"f": (b"1", FILE)})
    origin.repository.create_tag("v1", first, pygit2.enums.ObjectType.COMMIT, AUTHOR, "annotated")
    origin.repository.references.create("refs/tags/light", first)
    second = origin.commit({"f": (b"2", FILE)})
    other = origin.commit({"f": (b"3", FILE)}, branch="feature/x")
    revs = {"v1": first, "light": first, first: first, first[:9]: first, "refs/tags/v1": first,
            "HEAD": second, "main": second, second: second, "feature/x": other}  # fmt: skip
    for number, (rev, commit) in enumerate(revs.items()):
        folder = tmp_path / f"out{number}"
        folder.mkdir()
        assert resolve(origin, rev, folder).identity["commit"] == commit, rev


def test_fetch_brings_the_locked_commit_though_the_branch_moved(origin: Origin, tmp_path: Path, out: Path) -> None:
    origin.commit({"f": (b"1", FILE)})
    fetched = resolve(origin, "main", out)
    origin.commit({"f": (b"2", FILE)})
    params = FetchParams("git+x", fetched.files, fetched.identity)
    again = tmp_path / "again"
    again.mkdir()
    git.fetch(params, GitSource(origin.url, "main"), again, tmp_path / "work", {})
    assert content(again) == {"f": b"1"}


def test_fetch_refuses_another_tree(origin: Origin, tmp_path: Path, out: Path) -> None:
    commit = origin.commit({"f": (b"1", FILE)})
    params = FetchParams("git+x", {}, {"commit": commit, "tree": "0" * 64})
    with pytest.raises(VerificationError, match=r"expected sha256 0{64}"):
        git.fetch(params, GitSource(origin.url, "main"), out, tmp_path / "work", {})


def test_a_commit_that_is_gone(origin: Origin, tmp_path: Path, out: Path) -> None:
    origin.commit({"f": (b"1", FILE)})
    params = FetchParams("git+x", {}, {"commit": "ab" * 20, "tree": "0" * 64})
    with pytest.raises(SourceError, match="no longer in the repository"):
        git.fetch(params, GitSource(origin.url, "main"), out, tmp_path / "work", {})


def test_a_folder_and_a_file_of_it(origin: Origin, tmp_path: Path, out: Path) -> None:
    origin.commit({"a/b/c.txt": (b"c", FILE), "a/d.txt": (b"d", FILE), "e.txt": (b"e", FILE)})
    resolve(origin, "main", out, "a")
    assert content(out) == {"b/c.txt": b"c", "d.txt": b"d"}
    single = tmp_path / "single"
    single.mkdir()
    fetched = resolve(origin, "main", single, "a/b/c.txt")
    assert fetched.files == {"c.txt": Digest.of_bytes(b"c")}
    assert "tree" not in fetched.identity
    with pytest.raises(SourceError, match="not in the repository"):
        resolve(origin, "main", tmp_path, "a/nothing")


def test_links_become_copies(origin: Origin, out: Path) -> None:
    origin.commit(
        {
            "bin/run": (b"go", EXEC),
            "link": (b"bin/run", LINK),
            "chain": (b"./link", LINK),
            "deep/up": (b"../bin", LINK),
            "deep/through": (b"up/run", LINK),
        }
    )
    resolve(origin, "main", out)
    expected = {"bin/run", "link", "chain", "deep/up/run", "deep/through"}
    assert content(out) == dict.fromkeys(expected, b"go")
    assert os.access(out / "chain", os.X_OK)
    assert not any(path.is_symlink() for path in out.rglob("*"))


@pytest.mark.parametrize(
    ("path", "target", "reason"),
    [
        ("link", b"/etc/passwd", "leads out"),
        ("link", b"../other", "leads out"),
        ("a/link", b"../../other", "leads out"),
        ("link", b"nowhere", "link to nothing"),
        ("link", b"link", "circle"),
        ("a/b/loop", b"..", "stands in"),
        ("loop", b".", "stands in"),
    ],
)
def test_bad_links_are_refused(origin: Origin, out: Path, path: str, target: bytes, reason: str) -> None:
    origin.commit({"a/b/f": (b"f", FILE), path: (target, LINK)})
    with pytest.raises(SourceError, match=reason):
        resolve(origin, "main", out)


def test_submodules_are_refused(origin: Origin, out: Path) -> None:
    origin.commit({"f": (b"f", FILE), "vendor/lib": (b"", MODULE)})
    with pytest.raises(SourceError, match=r"'vendor/lib' is a submodule"):
        resolve(origin, "main", out)


def test_unknown_rev_names_those_there_are(origin: Origin, out: Path) -> None:
    origin.commit({"f": (b"f", FILE)})
    with pytest.raises(SourceError, match="no branch, tag or commit 'mian'") as caught:
        resolve(origin, "mian", out)
    assert "main" in caught.value.hint


def test_no_such_repository(tmp_path: Path, out: Path) -> None:
    with pytest.raises(SourceError, match="no such repository"):
        git.resolve(GitSource(f"file://{tmp_path}/none", "main"), out, tmp_path / "work", {})


def test_an_empty_repository(origin: Origin, out: Path) -> None:
    with pytest.raises(SourceError, match="no branch, tag or commit"):
        resolve(origin, "main", out)


def _smart_http(site: Site, root: Path, status: int = 0) -> None:
    """git's own CGI program behind the test server."""
    program = shutil.which("git-http-backend") or "/usr/lib/git-core/git-http-backend"
    if not Path(program).exists():
        pytest.skip("git-http-backend is not installed")

    def handler(exchange: Exchange, request: Request) -> None:
        if status:
            exchange.reply(status)
            return
        path, _, query = request.path.partition("?")
        length = int(request.headers.get("content-length", 0))
        environment = {
            "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": exchange.command, "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(length), "PATH": os.environ["PATH"], "HOME": str(root),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        }  # fmt: skip
        body = exchange.rfile.read(length)
        answer = subprocess.run([program], input=body, env=environment, capture_output=True, check=True).stdout
        head, _, data = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        code = int(fields.pop("Status", "200").split()[0])
        exchange.reply(code, data, **{name.replace("-", "_"): value for name, value in fields.items()})

    for end in ("/info/refs", "/git-upload-pack"):
        site.routes["/repo.git" + end] = handler


def test_over_http_only_one_commit_is_taken(site: Site, tmp_path: Path, out: Path) -> None:
    origin = Origin(tmp_path / "repo.git")
    first = origin.commit({"f": (b"1", FILE)})
    origin.commit({"f": (b"2", FILE)})
    third = origin.commit({"f": (b"3", FILE)})
    _smart_http(site, tmp_path)
    source = GitSource(f"{site.url}/repo.git", "main")
    fetched = git.resolve(source, out, tmp_path / "work", {})
    assert fetched.identity["commit"] == third
    assert content(out) == {"f": b"3"}
    clone = pygit2.Repository(str(tmp_path / "work" / "clone"))
    assert clone.get(first) is None, "the history was fetched too"

    again = tmp_path / "again"
    again.mkdir()
    git.fetch(FetchParams("git+x", {}, fetched.identity), source, again, tmp_path / "work2", {})
    assert content(again) == {"f": b"3"}


def test_over_http_an_older_commit(site: Site, tmp_path: Path, out: Path) -> None:
    """A server need not give a commit that no branch points to by its id: then everything is fetched."""
    origin = Origin(tmp_path / "repo.git")
    first = origin.commit({"f": (b"1", FILE)})
    origin.commit({"f": (b"2", FILE)})
    _smart_http(site, tmp_path)
    fetched = git.resolve(GitSource(f"{site.url}/repo.git", first), out, tmp_path / "work", {})
    assert fetched.identity["commit"] == first
    assert content(out) == {"f": b"1"}


@pytest.mark.parametrize(("status", "reason"), [(401, "credentials"), (404, "no such repository")])
def test_http_refusals(site: Site, tmp_path: Path, out: Path, status: int, reason: str) -> None:
    _smart_http(site, tmp_path, status)
    with pytest.raises(SourceError, match=reason):
        git.resolve(GitSource(f"{site.url}/repo.git", "main"), out, tmp_path / "work", {"HOME": str(tmp_path)})


def _with_password(site: Site, path: str) -> None:
    """Let nobody in at ``path`` who does not say who they are."""
    inner = site.routes[path]

    def handler(exchange: Exchange, request: Request) -> None:
        if "authorization" in request.headers:
            inner(exchange, request)
        else:
            exchange.reply(401, WWW_Authenticate='Basic realm="git"')

    site.routes[path] = handler


def _netrc(tmp_path: Path, host: str) -> dict[str, str]:
    file = tmp_path / "netrc"
    file.write_text(f"machine {host} login me password s3cret\n")
    file.chmod(0o600)
    return {"NETRC": str(file), "HOME": str(tmp_path)}


def test_a_password_of_the_netrc_is_used(site: Site, tmp_path: Path, out: Path) -> None:
    origin = Origin(tmp_path / "repo.git")
    origin.commit({"f": (b"1", FILE)})
    _smart_http(site, tmp_path)
    for end in ("/info/refs", "/git-upload-pack"):
        _with_password(site, "/repo.git" + end)
    environ = _netrc(tmp_path, "127.0.0.1")
    source = GitSource(f"{site.url}/repo.git", "main")
    fetched = git.resolve(source, out, tmp_path / "work", environ)
    assert content(out) == {"f": b"1"}

    again = tmp_path / "again"
    again.mkdir()
    git.fetch(FetchParams("git+x", {}, fetched.identity), source, again, tmp_path / "work2", environ)
    assert content(again) == {"f": b"1"}


def test_a_password_goes_to_no_host_that_one_is_redirected_to(site: Site, tmp_path: Path, out: Path) -> None:
    with running() as stranger:
        stranger.routes["/repo.git/info/refs"] = lambda exchange, _: exchange.reply(404)
        _with_password(stranger, "/repo.git/info/refs")
        site.routes["/repo.git/info/refs"] = lambda exchange, request: exchange.reply(
            301, Location=stranger.url + request.path
        )
        named = site.url.replace("127.0.0.1", "localhost")
        with pytest.raises(SourceError, match="wants credentials and redirects elsewhere"):
            git.resolve(GitSource(f"{named}/repo.git", "main"), out, tmp_path / "work", _netrc(tmp_path, "localhost"))
        assert stranger.requests, "it was not redirected"
        assert not any("authorization" in request.headers for request in stranger.requests)


def test_a_redirect_that_wants_no_password_is_followed(site: Site, tmp_path: Path, out: Path) -> None:
    origin = Origin(tmp_path / "repo.git")
    origin.commit({"f": (b"1", FILE)})
    _smart_http(site, tmp_path)
    site.routes["/old/info/refs"] = lambda exchange, request: exchange.reply(
        301, Location=site.url + request.path.replace("/old/", "/repo.git/")
    )
    git.resolve(GitSource(f"{site.url}/old", "main"), out, tmp_path / "work", _netrc(tmp_path, "127.0.0.1"))
    assert content(out) == {"f": b"1"}


def _nested(origin: Origin, levels: int, width: int, leaf: bytes | None) -> None:
    """A commit of folders in folders, ``width`` of them in each, all of them one and the same tree object."""
    builder = origin.repository.TreeBuilder()
    if leaf is not None:
        builder.insert("f", origin.repository.create_blob(leaf), FILE)
    tree = builder.write()
    for _ in range(levels):
        builder = origin.repository.TreeBuilder()
        for number in range(width):
            builder.insert(f"d{number}", tree, pygit2.enums.FileMode.TREE)
        tree = builder.write()
    origin.repository.create_commit("refs/heads/main", AUTHOR, AUTHOR, "a commit", tree, [])


def _export(origin: Origin, out: Path, limits: git_tree.ExportLimits) -> None:
    commit = origin.repository.revparse_single("main").peel(pygit2.Commit)
    git_tree.export("a source", commit, "", origin.repository.odb, out, limits)


def test_a_few_trees_cannot_stand_for_endless_folders(origin: Origin, out: Path) -> None:
    _nested(origin, levels=12, width=10, leaf=None)
    with pytest.raises(SourceError, match="one file or folder too many"):
        _export(origin, out, git_tree.ExportLimits(entries=200))


def test_folders_in_folders_without_end_are_refused(origin: Origin, out: Path) -> None:
    _nested(origin, levels=1500, width=1, leaf=b"x")
    with pytest.raises(SourceError, match="too deep"):
        resolve(origin, "main", out)


def test_a_file_that_is_larger_than_memory_is_refused_by_its_header(origin: Origin, out: Path) -> None:
    limits = git_tree.ExportLimits(file_size=1 << 20)
    origin.commit({"good": (bytes(1 << 20), FILE)})
    _export(origin, out, limits)
    origin.commit({"zeros": (bytes((1 << 20) + 1), FILE)})
    with pytest.raises(SourceError, match="'zeros' is too large"):
        _export(origin, out, limits)
