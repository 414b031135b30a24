"""Files of a model hub, by its HTTP API. The hub is whatever ``HF_ENDPOINT`` names; the token is never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from flatpack_build import gguf
from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError
from flatpack_build.fetching.http import Client, Policy
from flatpack_build.fetching.stream import Fetched, Readable, mismatch
from flatpack_build.manifest.source import HubSource
from flatpack_build.params import FetchParams

DEFAULT_ENDPOINT = "https://huggingface.co"
_LIMIT = 64 << 20  # bytes of an API answer: a repository with a hundred thousand files stays below


@dataclass(frozen=True)
class Hub:
    """Where the hub is, and who asks."""

    endpoint: str
    client: Client

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, policy: Policy | None = None) -> Hub:
        """By ``HF_ENDPOINT``, ``HF_TOKEN`` or the file that ``HF_TOKEN_PATH`` or ``HF_HOME`` leads to."""
        endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        return cls(endpoint, Client(policy, token=_token(environ), environ=environ))

    def address(self, source: HubSource, commit: str) -> str:
        return f"{self.endpoint}/{source.repo}/resolve/{commit}/{quote(source.file)}"


def _token(environ: Mapping[str, str]) -> str:
    if environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        return ""
    if token := environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN"):
        return token.strip()
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".cache")
    home = environ.get("HF_HOME") or f"{cache}/huggingface"
    try:
        return Path(environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError, RuntimeError):
        return ""


@dataclass(frozen=True)
class _File:
    size: int | None
    sha256: str
    """Empty where the hub does not know it: small files, that it keeps in git."""


def _ask(hub: Hub, source: HubSource) -> tuple[str, dict[str, _File]]:
    """The commit that ``rev`` stands for now, and its files."""
    import json

    url = f"{hub.endpoint}/api/models/{source.repo}/revision/{quote(source.rev, safe='')}?blobs=true"

    def whole(stream: Readable) -> bytes:
        parts = []
        left = _LIMIT
        while left > 0 and (part := stream.read(min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    try:
        answer = json.loads(hub.client.read(url, whole))
        commit = str(answer["sha"])
        files = {}
        for item in answer["siblings"]:
            lfs = item.get("lfs") or {}
            size = lfs.get("size", item.get("size"))
            digest = str(lfs.get("sha256") or lfs.get("oid") or "")
            files[str(item["rfilename"])] = _File(
                size if isinstance(size, int) and size >= 0 else None, Digest.parse(digest) if digest else ""
            )
    except SourceError as error:
        hint = f"{error.hint}; is {source.repo}@{source.rev} right? a private or gated one needs HF_TOKEN"
        raise SourceError(f"{source}: {error.message}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{source}: {hub.endpoint} does not answer as a model hub does",
                          hint="check HF_ENDPOINT") from error  # fmt: skip
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise SourceError(f"{source}: {hub.endpoint} names no commit", hint="check HF_ENDPOINT")
    return commit, files


def _missing(source: HubSource, files: Mapping[str, _File]) -> SourceError:
    import difflib

    kind = source.file.rpartition(".")[2]
    near = difflib.get_close_matches(source.file, files, 3, 0.4) or [f for f in sorted(files) if f.endswith(kind)][:5]
    return SourceError(f"{source}: the repository has no file {source.file!r}",
                       hint=f"did you mean {' or '.join(near)}?" if near else "look at its list of files")  # fmt: skip


def resolve(source: HubSource, out: Path, hub: Hub) -> Fetched:
    """What the source stands for now. Downloads below ``out`` only where the hub does not tell the sha256.

    Of a GGUF that is not downloaded the header is read, for its facts. Raises ``SourceError``, ``VerificationError``.
    """
    commit, files = _ask(hub, source)
    entry = files.get(source.file)
    if entry is None:
        raise _missing(source, files)
    identity = {"commit": commit}
    address = hub.address(source, commit)
    if entry.sha256 and entry.size is not None:
        size, facts = entry.size, {}
        if source.file.lower().endswith(".gguf"):
            facts = hub.client.read(address, lambda stream: gguf.read_stream(stream, size, source.name)).facts()
        return Fetched({source.name: entry.sha256}, identity, size, present=False, facts=facts)
    digest, size = hub.client.download(address, out / source.name, entry.sha256)
    return Fetched({source.name: digest}, identity, size)


def fetch(params: FetchParams, source: HubSource, out: Path, hub: Hub) -> None:
    """Raises ``SourceError``, ``VerificationError``."""
    ((name, expected),) = params.files.items()
    digest, _ = hub.client.download(
        hub.address(source, params.identity["commit"]), out / name, expected, most=params.size
    )
    if digest != expected:
        raise mismatch(params.source, name, expected, digest)
