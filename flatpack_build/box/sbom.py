"""The bill of materials of a box: CycloneDX 1.6 with machine-learning models. Knows no builder, no step and no clock.

The library gives the document's form; what it has no words for yet (model cards) or would make different each time
(time and serial number) is put in after it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flatpack_build.box.locators import locator, wheel_purl
from flatpack_build.box.payload import PayloadFile, PayloadManifest
from flatpack_build.digest import Digest, Json, canonical_json
from flatpack_build.materials import Materials, SourceUse

if TYPE_CHECKING:
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import License

SBOM_NAME: Final = "sbom.cdx.json"
_OWN: Final = "flatpack-build:"
"""Before the names of our properties."""


@dataclass(frozen=True)
class ModelInBox:
    """The packed model: its file, and what its header says (architecture, parameters, ...)."""

    file: PayloadFile
    facts: Mapping[str, int | str]


@dataclass(frozen=True)
class Described:
    """What there is to describe. ``documents`` and ``index`` are files of ``contents`` by their roles."""

    contents: PayloadManifest
    materials: Materials
    model: ModelInBox | None = None
    documents: Sequence[PayloadFile] = ()
    index: Sequence[PayloadFile] = ()


def encode_sbom(described: Described) -> bytes:
    """The bill as JSON text: the same for the same box, whenever and wherever it is made."""
    from cyclonedx.model.bom import Bom  # heavy, and only boxes that are packed have a bill made
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    contents, materials = described.contents, described.materials
    bom = Bom()
    main = Component(
        name=contents.flatpack,
        version=contents.version,
        type=ComponentType.APPLICATION,
        bom_ref="flatpack",
        description=materials.description or None,
        licenses=_licenses([materials.license]),
        properties=_properties({"target": contents.target}),
    )
    bom.metadata.component = main
    bom.metadata.tools.components.add(
        Component(
            name="flatpack-build",
            version=materials.builder or None,
            type=ComponentType.APPLICATION,
            bom_ref="flatpack-build",
            licenses=_licenses(["Apache-2.0"]),
        )
    )
    parts = list(_parts(described))
    bom.components.update(parts)
    bom.register_dependency(main, parts)
    by_ref = {part.bom_ref.value: part for part in parts}
    if "index" in by_ref:
        bom.register_dependency(
            by_ref["index"], [by_ref[ref] for ref in ("documents", "source:embedder") if ref in by_ref]
        )
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    _complete(document, described)
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def _complete(document: dict[str, Any], described: Described) -> None:
    del document["metadata"]["timestamp"]
    del document["serialNumber"]
    for component in document.get("components", ()):
        if component["bom-ref"] == "model" and described.model:
            component["modelCard"] = _model_card(described.model, described.materials)
        # The library is quadratic in the number of components, and there may be ten thousand documents.
        elif component["bom-ref"] in ("documents", "index"):
            files = described.documents if component["bom-ref"] == "documents" else described.index
            component["components"] = [
                {"type": "data", "name": file.path, "hashes": [{"alg": "SHA-256", "content": file.sha256}]}
                for file in sorted(files, key=lambda file: file.path)
            ]
    name = Digest.of_bytes(canonical_json(document))
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'urn:sha256:{name}')}"


def _model_card(model: ModelInBox, materials: Materials) -> dict[str, Json]:
    facts: dict[str, Json] = {name: value for name, value in model.facts.items() if value not in ("", 0)}
    architecture = facts.pop("architecture", "")
    use = materials.model
    if use:
        facts["format"] = use.format
        facts["quantisation"] = use.quantisation or facts.get("quantisation", "")
    facts["size"] = model.file.size
    card: dict[str, Json] = {
        "properties": [
            {"name": _OWN + name, "value": str(value)} for name, value in sorted(facts.items()) if value != ""
        ]
    }
    if architecture:
        card["modelParameters"] = {"modelArchitecture": architecture}
    return card


def _parts(described: Described) -> Iterable[Component]:
    from cyclonedx.model.component import Component, ComponentType

    materials = described.materials
    if described.model:
        yield _model(described.model, materials)
    for use in materials.sources:
        if use.role != "model" and use.role != "signature":
            yield _source(use)
    for wheel in materials.wheels:
        yield _component(
            f"wheel:{wheel.filename}",
            wheel.name,
            ComponentType.LIBRARY,
            version=wheel.version,
            purl=wheel_purl(wheel.name, wheel.version),
            sha256=wheel.sha256,
            properties={"file": wheel.filename},
        )
    about = (
        ("documents", described.documents, "what the flatpack can be asked about"),
        ("index", described.index, "made from the documents, to find passages in them"),
    )
    for name, files, text in about:
        if files:
            yield Component(
                name=name,
                type=ComponentType.DATA,
                bom_ref=name,
                description=text,
                properties=_properties({"files": len(files)}),
            )


def _model(model: ModelInBox, materials: Materials) -> Component:
    from cyclonedx.model.component import ComponentType, Pedigree

    origin = next((use for use in materials.sources if use.role == "model"), None)
    name = str(model.facts.get("name", "")) or model.file.path.rpartition("/")[2]
    properties: dict[str, object] = {"path": model.file.path}
    found = _component(
        "model",
        name,
        ComponentType.MACHINE_LEARNING_MODEL,
        sha256=model.file.sha256,
        licenses=origin.licenses if origin and origin.licenses else (str(model.facts.get("license", "")),),
        properties=properties,
    )
    if origin is None:
        return found
    file, digest = next(iter(origin.files.items()))
    if digest == model.file.sha256:
        _locate(found, origin, file)
        return found
    source = _component("model-source", file, ComponentType.MACHINE_LEARNING_MODEL, sha256=digest)
    _locate(source, origin, file)
    use = materials.model
    changed = f"quantised from {use.original} to {use.quantisation}" if use and use.original else "quantised"
    found.pedigree = Pedigree(ancestors=[source], notes=changed)
    return found


def _source(use: SourceUse) -> Component:
    """A source that is no model of its own: the embedder, a repository, a file, a data set."""
    from cyclonedx.model.component import ComponentType

    kinds = {
        "embedder": ComponentType.MACHINE_LEARNING_MODEL,
        "git": ComponentType.LIBRARY,
        "file": ComponentType.FILE,
        "dataset": ComponentType.DATA,
    }
    names = sorted(use.files)
    where = locator(use.source, use.identity)
    found = _component(
        f"source:{use.role}" + (f":{use.place}" if use.role != "embedder" else ""),
        _name_of(use),
        kinds[use.role],
        version=_version_of(use),
        sha256=use.files[names[0]] if len(names) == 1 else "",
        licenses=use.licenses,
        description=use.note,
        properties={"path": use.place, **use.identity},
    )
    _locate(found, use, "")
    if len(names) > 1:
        for name in names:
            found.components.add(
                _component(f"{where}:{name}", name, ComponentType.FILE, sha256=use.files[name]),
            )
    return found


def _name_of(use: SourceUse) -> str:
    where = locator(use.source, use.identity)
    if where.startswith("pkg:"):
        return where.partition("/")[2].partition("@")[0]
    bare = where.partition("#")[0]
    if use.role == "git":
        bare = bare.rpartition("@")[0]
    return bare.rstrip("/").rpartition("/")[2].removesuffix(".git") or bare


def _version_of(use: SourceUse) -> str:
    where = locator(use.source, use.identity)
    if where.startswith("pkg:"):
        return where.partition("@")[2].partition("#")[0]
    return use.identity.get("commit", "")


def _locate(component: Component, use: SourceUse, file: str) -> None:
    """Say where it comes from: a package URL where there is one, else a reference."""
    from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
    from packageurl import PackageURL

    where = locator(use.source, use.identity, file)
    if where.startswith("pkg:"):
        component.purl = PackageURL.from_string(where)
    elif where.startswith("git+"):
        component.external_references.add(ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(where)))
    elif not where.startswith("file:"):
        component.external_references.add(ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(where)))


def _component(
    ref: str,
    name: str,
    kind: ComponentType,
    *,
    version: str = "",
    purl: str = "",
    sha256: str = "",
    licenses: Sequence[str] = (),
    description: str = "",
    properties: Mapping[str, object] | None = None,
) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

    return Component(
        name=name,
        type=kind,
        version=version or None,
        bom_ref=ref,
        purl=PackageURL.from_string(purl) if purl else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else None,
        licenses=_licenses(licenses),
        description=description or None,
        properties=_properties(properties or {}),
    )


def _properties(values: Mapping[str, object]) -> list[Any]:
    from cyclonedx.model import Property

    return [Property(name=_OWN + name, value=str(value)) for name, value in values.items() if value not in ("", None)]


def _licenses(texts: Sequence[str]) -> list[License]:
    """SPDX ids and expressions as such, anything else by its name."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.license import LicenseExpression

    factory = LicenseFactory()
    named = [text for text in texts if text]
    found = [factory.make_from_string(text) for text in named]
    if len(found) > 1:  # the format knows one expression, or several licences
        return [
            factory.make_with_name(text) if isinstance(license, LicenseExpression) else license
            for text, license in zip(named, found, strict=True)
        ]
    return found
