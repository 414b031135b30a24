"""Where something comes from, as the one text that provenance and SBOM both name it by: a package URL or a plain URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from flatpack_build.manifest.source import GitSource, HttpSource, HubSource, PypiSource, parse_source


def wheel_purl(name: str, version: str) -> str:
    """``pkg:pypi/<name>@<version>``, the name as the package index normalises it."""
    return f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{quote(version, safe='.')}"


def locator(source: str, identity: Mapping[str, str], file: str = "") -> str:
    """The locked ``source`` with what its ``identity`` pins; ``file`` is the name of the fetched file that is meant,
    where there are several. A user's own file is ``file:<name>``."""
    parsed = parse_source(source)
    if isinstance(parsed, PypiSource):
        members = [member for member in parsed.members if not file or member.rpartition("/")[2] == file]
        path = quote(members[0].strip("/")) if len(members) == 1 else ""
        return wheel_purl(parsed.name, parsed.version) + (f"#{path}" if path else "")
    if isinstance(parsed, HubSource):
        return f"pkg:huggingface/{quote(parsed.repo)}@{identity.get('commit', parsed.rev)}#{quote(parsed.file)}"
    if isinstance(parsed, GitSource):
        path = f"#{parsed.path}" if parsed.path else ""
        return f"git+{parsed.url}@{identity.get('commit', parsed.rev)}{path}"
    if isinstance(parsed, HttpSource):
        return parsed.url
    return f"file:{quote(parsed.name)}"
