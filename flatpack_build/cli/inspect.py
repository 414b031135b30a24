"""``flatpack inspect``: what is in a box, without unpacking it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flatpack_build.cli.here import keys_option, policy_here
from flatpack_build.cli.text import bytes_text
from flatpack_build.cli.verify import Verdict, judge_open
from flatpack_build.plain import printable

if TYPE_CHECKING:
    from flatpack_build.box.description import BoxDescription

EPILOG = """\b
Examples:
  flatpack inspect dist/chat-0.1.0-pi5.fpk
  flatpack inspect chat.fpk --key vendor.pub.pem --json
"""
_FACTS = {
    "name": "name",
    "architecture": "architecture",
    "parameters": "parameters",
    "quantisation": "quantisation",
    "context_length": "context",
    "layers": "layers",
    "vocabulary": "vocabulary",
}


@click.command(epilog=EPILOG)
@click.argument("box", type=click.Path(path_type=Path))
@keys_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def inspect(box: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Show what is in BOX: who signed it, files, models, provenance. Nothing is unpacked.

    A box that is not trusted is shown all the same, and said to be so; the exit status is that of "flatpack verify".
    """
    from flatpack_build.box.contents import open_box  # these bring zstandard: not for --help
    from flatpack_build.box.description import describe_open_box

    policy = policy_here(keys)
    with open_box(box) as file:
        verdict = judge_open(box, file, policy)
        description = describe_open_box(file)
    if as_json:
        click.echo(json.dumps(_as_json(verdict, description), indent=2))
    else:
        for line in _lines(verdict, description):
            click.echo(printable(line))
    if verdict.error:
        click.get_current_context().exit(verdict.error.exit_code)


def _as_json(verdict: Verdict, box: BoxDescription) -> dict[str, object]:
    judgement = verdict.judgement
    verified = judgement.verified if judgement else None
    manifest = box.manifest
    return {
        "box": str(verdict.box),
        "size": verdict.box.stat().st_size,
        "flatpack": manifest.flatpack if manifest else box.top or None,
        "version": manifest.version if manifest else None,
        "target": manifest.target if manifest else None,
        "payload": manifest.digest if manifest else None,
        "layout": box.layout,
        "content_size": box.size,
        "signature": {
            "trusted": bool(judgement and judgement.trusted),
            "trusted_as": judgement.trusted.name if judgement and judgement.trusted else None,
            "key": verified.key_id if verified else None,
            "hash": verified.hash.value if verified else None,
            "development_key": verified.development if verified else None,
            "problem": verdict.error.message if verdict.error else judgement.warning or None if judgement else None,
        },
        "entries": [
            {
                "path": entry.path,
                "kind": entry.kind,
                "mode": f"{entry.mode:04o}",
                "size": entry.size,
                "sha256": entry.sha256,
            }
            for entry in box.entries
        ],
        "models": [
            {"path": model.path, **model.facts} | ({"problem": model.problem} if model.problem else {})
            for model in box.models
        ],
        "documents": {path: _json_or_none(data) for path, data in box.documents.items()},
    }


def _json_or_none(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _lines(verdict: Verdict, box: BoxDescription) -> Iterator[str]:
    manifest = box.manifest
    yield f"box         {verdict.box}, {bytes_text(verdict.box.stat().st_size)}"
    if manifest:
        yield f"flatpack    {manifest.flatpack} {manifest.version} for {manifest.target}"
        yield f"payload     {manifest.digest}"
    elif box.layout == "folder":
        yield f"flatpack    {box.top} (made by the original Flatpack: there is no list of files that was signed)"
    else:
        yield "contents    a single file, without a name"
    yield from _signature(verdict)
    files = [entry for entry in box.entries if entry.kind == "file"]
    yield f"contents    {len(files)} files, {bytes_text(box.size)}"
    for model in box.models:
        yield f"model       {model.path or '(the file)'}"
        if model.problem:
            yield f"  cannot be read: {model.problem}"
        for fact, word in _FACTS.items():
            value = model.facts.get(fact)
            if value:
                yield f"  {word:<13} {value:,}" if isinstance(value, int) else f"  {word:<13} {value}"
    yield from _documents(box)
    yield ""
    width = max((len(f"{entry.size:,}") for entry in box.entries), default=0)
    for entry in box.entries:
        end = "/" if entry.kind == "folder" else "" if entry.kind == "file" else f" ({entry.kind})"
        yield f"{entry.mode:04o}  {entry.size:>{width},}  {entry.path or '(the file)'}{end}"


def _signature(verdict: Verdict) -> Iterator[str]:
    if verdict.error:
        yield f"signature   NOT TRUSTED: {verdict.error.message}"
        return
    assert verdict.judgement is not None
    judgement = verdict.judgement
    if judgement.verified:
        mark = ", a development key" if judgement.verified.development else ""
        yield f"signed by   {judgement.verified.key_id} ({judgement.verified.hash}{mark})"
    if judgement.trusted:
        yield f"trusted as  {judgement.trusted.described}"
    else:
        yield f"signature   NOT TRUSTED: {judgement.warning}"


def _documents(box: BoxDescription) -> Iterator[str]:
    from flatpack_build.box.documents import summarise_provenance, summarise_sbom
    from flatpack_build.box.provenance import PROVENANCE_NAME
    from flatpack_build.box.sbom import SBOM_NAME

    if PROVENANCE_NAME in box.documents:
        provenance = summarise_provenance(box.documents[PROVENANCE_NAME])
        if provenance is None:
            yield f"provenance  {PROVENANCE_NAME} cannot be read"
        else:
            yield f"provenance  {provenance.builder or 'unknown builder'} {provenance.version}".rstrip()
            for material in provenance.materials:
                yield f"  {material.uri}  {' '.join(material.digests)}".rstrip()
    if SBOM_NAME in box.documents:
        components = summarise_sbom(box.documents[SBOM_NAME])
        if components is None:
            yield f"parts       {SBOM_NAME} cannot be read"
            return
        yield f"parts       {len(components)}, listed in {SBOM_NAME}"
        for part in components:
            licenses = f" ({', '.join(part.licenses)})" if part.licenses else ""
            yield f"  {part.kind:<22} {part.name} {part.version}".rstrip() + licenses
