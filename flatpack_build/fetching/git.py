"""Git repositories, through libgit2: as little of one as will do, and the tree at a commit out of it."""

from __future__ import annotations

import contextlib
import netrc
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from flatpack_build import events
from flatpack_build.errors import FlatpackError, SourceError
from flatpack_build.fetching.git_tree import export
from flatpack_build.fetching.http import public_url
from flatpack_build.fetching.stream import Fetched, check_files, mismatch
from flatpack_build.manifest.source import GitSource
from flatpack_build.params import FetchParams

if TYPE_CHECKING:
    import pygit2

T = TypeVar("T")
_ATTEMPTS = 3
_CONNECT_MS, _SERVER_MS = 15_000, 60_000
_EVERYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_NETWORK = (
    "timed out", "timeout", "failed to connect", "failed to resolve", "reset by peer", "early eof", "unexpected eof",
    "unexpected disconnection", "status code: 5", "recv", "could not receive", "socket",
)  # fmt: skip


class _SecretWantedError(Exception):
    """The server asks for a password, and there is one for the host that the source names."""


def _callbacks(url: str, environ: Mapping[str, str], *, at_home: bool) -> pygit2.RemoteCallbacks:
    """``at_home``: whoever asks for credentials is the host in ``url``, since redirects are not followed."""
    import pygit2  # loads libgit2

    class Callbacks(pygit2.RemoteCallbacks):
        def __init__(self) -> None:
            super().__init__()
            self._asked = 0

        def transfer_progress(self, stats: Any) -> None:
            events.progress(stats.received_objects, stats.total_objects or None, "objects")

        def credentials(
            self, _url: str, username: str | None, allowed: int
        ) -> pygit2.Username | pygit2.UserPass | pygit2.Keypair:
            self._asked += 1
            if self._asked > 3:  # libgit2 asks again for as long as the server says no
                raise pygit2.GitError("authentication failed: the credentials were refused")
            kinds = pygit2.enums.CredentialType
            if allowed & kinds.USERNAME:
                return pygit2.Username(username or "git")
            if allowed & kinds.SSH_KEY:
                return _ssh_key(username or "git", self._asked, environ)
            if allowed & kinds.USERPASS_PLAINTEXT and self._asked == 1 and (known := _netrc(url, environ)):
                if not at_home:
                    raise _SecretWantedError
                return pygit2.UserPass(*known)
            raise pygit2.GitError("authentication failed: no credentials for it")

    return Callbacks()


def _ssh_key(user: str, asked: int, environ: Mapping[str, str]) -> pygit2.Keypair:
    import pygit2

    if asked == 1 and environ.get("SSH_AUTH_SOCK"):
        return pygit2.KeypairFromAgent(user)
    folder = Path(environ.get("HOME") or "~").expanduser() / ".ssh"
    keys = [folder / name for name in ("id_ed25519", "id_ecdsa", "id_rsa")]
    present = [key for key in keys if key.exists() and key.with_suffix(".pub").exists()]
    number = asked - (2 if environ.get("SSH_AUTH_SOCK") else 1)
    if number >= len(present):
        raise pygit2.GitError("authentication failed: no ssh agent and no key in ~/.ssh that fits")
    return pygit2.Keypair(user, str(present[number]) + ".pub", str(present[number]), "")


def _netrc(url: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    path = environ.get("NETRC") or str(Path(environ.get("HOME") or "~").expanduser() / ".netrc")
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        if found := netrc.netrc(path).authenticators(urlsplit(url).hostname or ""):
            return found[0] or found[1], found[2]
    return None


class Clone:
    """A bare repository in a folder of its own that takes from one remote what is asked for."""

    def __init__(self, source: GitSource, folder: Path, environ: Mapping[str, str] = os.environ) -> None:
        import pygit2

        self._source = source
        self._environ = environ
        self._remote_is_local = source.url.startswith("file:")
        with contextlib.suppress(AttributeError, pygit2.GitError):
            # Settings of the whole process; whoever fetches with git wants them all the same.
            pygit2.settings.server_connect_timeout = _CONNECT_MS
            pygit2.settings.server_timeout = _SERVER_MS
        if certificates := environ.get("GIT_SSL_CAINFO"):
            with contextlib.suppress(pygit2.GitError):
                pygit2.settings.ssl_cert_file = certificates
        self.repository = pygit2.init_repository(str(folder), bare=True)
        self._remote = self.repository.remotes.create_anonymous(source.url)
        self._at_home = False

    def heads(self) -> dict[str, str]:
        """What the remote offers: name of the reference -> id."""

        def ask(callbacks: pygit2.RemoteCallbacks) -> dict[str, str]:
            return {str(head.name): str(head.oid) for head in self._remote.list_heads(callbacks=callbacks, proxy=True)}

        return self._patiently(ask)

    def take(self, *refspecs: str, depth: int = 0) -> None:
        """Raises ``SourceError``."""

        def ask(callbacks: pygit2.RemoteCallbacks) -> None:
            self._remote.fetch(list(refspecs), callbacks=callbacks, depth=depth, proxy=True)

        self._patiently(ask)

    def _with_callbacks(self, ask: Callable[[pygit2.RemoteCallbacks], T]) -> T:
        """libgit2 gives a password to whomever it was redirected to, and does not say who that is. So redirects are
        followed without one only; where one is wanted, it is asked once more and goes to the host in the source."""
        if not self._at_home:
            with contextlib.suppress(_SecretWantedError):
                return ask(_callbacks(self._source.url, self._environ, at_home=False))
            self.repository.config["http.followRedirects"] = "false"
            self._at_home = True
        return ask(_callbacks(self._source.url, self._environ, at_home=True))

    def _patiently(self, ask: Callable[[pygit2.RemoteCallbacks], T]) -> T:
        import pygit2

        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._with_callbacks(ask)
            except (pygit2.GitError, KeyError, ValueError, OSError) as error:
                last = attempt == _ATTEMPTS
                if last or not any(sign in str(error).lower() for sign in _NETWORK):
                    raise _explain(self._source, error) from error
                events.note(f"{public_url(self._source.url)}: {error}; trying again")
        raise AssertionError

    def take_commit(self, commit: str) -> pygit2.Commit | None:
        """The commit by its id: alone where the remote lets it go, else with all the rest. ``None``: not there."""
        import pygit2

        if not self._remote_is_local:
            with contextlib.suppress(pygit2.GitError, ValueError, KeyError, OSError):
                refspec = f"+{commit}:refs/flatpack/commit"
                self._with_callbacks(
                    lambda callbacks: self._remote.fetch([refspec], callbacks=callbacks, depth=1, proxy=True)
                )
        if self.repository.get(commit) is None:
            self.take(*_EVERYTHING)
        found = self.repository.get(commit)
        return found if isinstance(found, pygit2.Commit) else None

    def find(self, rev: str) -> pygit2.Commit:
        """The commit that ``rev`` stands for at the remote now. Raises ``SourceError``."""
        import pygit2

        heads = self.heads()
        for name in (rev, f"refs/{rev}", f"refs/tags/{rev}", f"refs/heads/{rev}"):
            if name in heads and (name == "HEAD" or name.startswith("refs/")):
                # The history is not wanted, but libgit2 cannot leave it out when it reads from a folder.
                self.take(f"+{name}:refs/flatpack/found", depth=0 if self._remote_is_local else 1)
                return self._commit(self.repository.get(heads[name]))
        known = sorted(name.split("/", 2)[2] for name in heads if name.startswith(("refs/heads/", "refs/tags/")))
        known = [name for name in known if not name.endswith("^{}")]
        found: pygit2.Object | pygit2.Commit | None = None
        if 7 <= len(rev) <= 40 and set(rev.lower()) <= set("0123456789abcdef"):
            if len(rev) == 40:
                found = self.take_commit(rev.lower())
            else:
                self.take(*_EVERYTHING)
                with contextlib.suppress(KeyError, ValueError, pygit2.GitError):
                    found = self.repository.revparse_single(rev)
        if found is None:
            some = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            hint = f"it has {some}" if known else "the repository has no branches and no tags"
            raise SourceError(f"{self._source}: the repository has no branch, tag or commit {rev!r}", hint=hint)
        return self._commit(found)

    def _commit(self, found: pygit2.Object | pygit2.Commit | None) -> pygit2.Commit:
        import pygit2

        try:
            commit = found.peel(pygit2.Commit) if found is not None else None
        except (pygit2.GitError, KeyError, ValueError):
            commit = None
        if commit is None:
            raise SourceError(f"{self._source}: {self._source.rev!r} is no commit", hint="name a branch, tag or commit")
        return commit


def _explain(source: GitSource, error: Exception) -> FlatpackError:
    text = str(error).strip() or type(error).__name__
    low = text.lower()
    where = public_url(source.url)
    if "authentication" in low or "status code: 401" in low or "status code: 403" in low:
        hint = "is the address right? credentials go into ~/.netrc for https, into an agent or ~/.ssh for ssh"
        return SourceError(f"{where}: the server wants credentials, or has no such repository", hint=hint)
    if "redirect" in low:
        hint = "name the address that it redirects to; credentials are given to no other host than the source names"
        return SourceError(f"{where}: the server wants credentials and redirects elsewhere", hint=hint)
    if "not owned by current user" in low:
        hint = f"it belongs to someone else; if you trust it: git config --global --add safe.directory {where}"
        return SourceError(f"{where}: {text}", hint=hint)
    if "status code: 404" in low or "not find repository" in low or "failed to resolve path" in low:
        return SourceError(f"{where}: there is no such repository", hint="check the address")
    if "unsupported url protocol" in low:
        return SourceError(f"{where}: this libgit2 cannot reach it", hint="use git+https:// instead")
    if any(sign in low for sign in _NETWORK):
        return SourceError(f"{where}: the repository cannot be reached: {text}", hint="check the network")
    return SourceError(f"{where}: {text}", hint="does `git clone` of it work by hand?")


def resolve(source: GitSource, out: Path, work: Path, environ: Mapping[str, str] = os.environ) -> Fetched:
    """Find the commit that the source stands for now, and export it (or ``path`` in it) below ``out``.

    A folder's identity holds its ``tree`` digest and its ``files`` are empty; a file is named in ``files``.
    Raises ``SourceError``.
    """
    clone = Clone(source, work / "clone", environ)
    commit = clone.find(source.rev)
    files, tree = export(str(source), commit, source.path, clone.repository.odb, out)
    identity = {"commit": str(commit.id)} | ({"tree": tree.digest} if not files else {})
    return Fetched(files, identity, tree.size)


def fetch(
    params: FetchParams, source: GitSource, out: Path, work: Path, environ: Mapping[str, str] = os.environ
) -> None:
    """Export the locked commit. Raises ``SourceError``, ``VerificationError``."""
    clone = Clone(source, work / "clone", environ)
    commit = clone.take_commit(params.identity["commit"])
    if commit is None:
        hint = "its history was rewritten; run: flatpack lock <name>"
        raise SourceError(f"{source}: the commit {params.identity['commit']} is no longer in the repository", hint=hint)
    files, tree = export(str(source), commit, source.path, clone.repository.odb, out)
    if params.files:
        check_files(params.source, params.files, files)
    elif tree.digest != params.identity["tree"]:
        raise mismatch(params.source, "the tree", params.identity["tree"], tree.digest)
