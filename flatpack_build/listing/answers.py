"""Answers to queries as lines of text and as JSON. Pure: writes nowhere, reads nothing."""

from __future__ import annotations

from collections.abc import Iterator

from flatpack_build.digest import Json
from flatpack_build.listing.style import Style, dump, lines
from flatpack_build.query import Needs, UsesOf
from flatpack_build.views import size_text


def uses_text(answer: UsesOf, style: Style) -> Iterator[str]:
    for use in answer.uses:
        yield style(use.flatpack, "name")
        if use.decides:
            yield "  says what its actions are: a change may concern each of them"
        yield from lines("read by", use.direct)
        yield from lines("and so concerns", use.indirect)
        yield from lines("boxes", use.boxes)
    if not answer.uses:
        yield f"nothing in the warehouse depends on {answer.file}"
    if answer.unlocked:
        yield f"not known, for want of a lock: {', '.join(answer.unlocked)}"


def uses_json(answer: UsesOf) -> str:
    uses: Json = [
        {
            "flatpack": use.flatpack,
            "decides_actions": use.decides,
            "direct": use.direct,
            "indirect": use.indirect,
            "boxes": use.boxes,
        }
        for use in answer.uses
    ]
    return dump({"file": answer.file, "uses": uses, "not_locked": answer.unlocked})


def needs_text(answer: Needs, style: Style) -> Iterator[str]:
    yield style(f"{answer.name} depends on", "name")
    yield from lines("actions", answer.actions)
    yield from lines("files", [f"{file.path}  {size_text(file.size)}  sha256 {file.digest}" for file in answer.files])
    yield from lines("decided by", answer.decided_by)
    sources: list[str] = []
    for source in answer.sources:
        sources.append(source.source)
        sources += [f"  {name} {value}" for name, value in source.identity.items()]
        sources += [f"  {path}  sha256 {digest}" for path, digest in source.files.items()]
    yield from lines("sources", sources)
    yield from lines("tools", [f"{tool} {version}" for tool, version in answer.tools.items()])


def needs_json(answer: Needs) -> str:
    files: Json = [{"path": file.path, "size": file.size, "sha256": file.digest} for file in answer.files]
    sources: Json = [
        {"source": source.source, "identity": source.identity, "files": source.files} for source in answer.sources
    ]
    return dump(
        {
            "name": answer.name,
            "actions": answer.actions,
            "files": files,
            "decided_by": answer.decided_by,
            "sources": sources,
            "tools": answer.tools,
        }
    )
