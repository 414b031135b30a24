"""What a box says about itself: ``provenance.json`` and ``sbom.cdx.json``, from the files to pack and what is known of
their making. Knows no archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flatpack_build.box.packing import PayloadEntry
from flatpack_build.box.payload import FILE_MODE, PayloadFile, PayloadManifest
from flatpack_build.box.provenance import PROVENANCE_NAME, encode_statement, statement
from flatpack_build.box.sbom import SBOM_NAME, Described, ModelInBox, encode_sbom
from flatpack_build.digest import Digest, Json
from flatpack_build.gguf import read_header
from flatpack_build.materials import Materials

DESCRIPTIONS = (PROVENANCE_NAME, SBOM_NAME)
_FACTS = ("architecture", "context_length", "layers", "name", "parameters", "quantisation", "vocabulary")


def describe(
    contents: PayloadManifest, manifest: Json, materials: Materials, owners: Mapping[str, str], model: Path | None
) -> list[PayloadEntry]:
    """The two files, the provenance with the SBOM among its subjects. ``owners`` says which input each file of
    ``contents`` comes from; ``model`` is the model's file. Raises ``VerificationError`` for a GGUF that is none."""
    of = {
        owner: [file for file in contents.files if owners.get(file.path) == owner]
        for owner in ("model", "documents", "index")
    }
    in_box = ModelInBox(of["model"][0], _facts(model, materials)) if model and of["model"] else None
    sbom = encode_sbom(Described(contents, materials, in_box, of["documents"], of["index"]))
    listed = PayloadFile(SBOM_NAME, FILE_MODE, len(sbom), Digest.of_bytes(sbom))
    whole = replace(contents, files=tuple(sorted((*contents.files, listed), key=lambda file: file.path)))
    provenance = encode_statement(statement(whole, manifest, materials))
    return [PayloadEntry(SBOM_NAME, sbom), PayloadEntry(PROVENANCE_NAME, provenance)]


def _facts(model: Path, materials: Materials) -> dict[str, int | str]:
    if not materials.model or materials.model.format != "gguf":
        return {}
    header = read_header(model)
    license = header.metadata.get("general.license")
    known = header.facts()
    return {name: known[name] for name in _FACTS} | ({"license": license} if isinstance(license, str) else {})
