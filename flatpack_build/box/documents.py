"""What a box's provenance and bill of materials say, in a few lines. Reads any document of these forms, ours or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Material:
    """A source that went into a box: its locator and its digests, as ``sha256:...``."""

    uri: str
    digests: tuple[str, ...]


@dataclass(frozen=True)
class ProvenanceSummary:
    """An in-toto Statement with SLSA's predicate. Empty texts: it does not say."""

    build_type: str
    builder: str
    version: str
    materials: tuple[Material, ...]


@dataclass(frozen=True)
class Component:
    """A part that a bill of materials names."""

    kind: str
    name: str
    version: str
    licenses: tuple[str, ...]


def summarise_provenance(data: bytes) -> ProvenanceSummary | None:
    """``None`` for what is no provenance."""
    statement = _load(data)
    predicate = _table(statement.get("predicate"))
    if not predicate:
        return None
    definition, run = _table(predicate.get("buildDefinition")), _table(predicate.get("runDetails"))
    builder = _table(run.get("builder"))
    materials = tuple(
        Material(
            _text(item.get("uri")) or _text(item.get("name")),
            tuple(f"{name}:{_text(value)}" for name, value in sorted(_table(item.get("digest")).items())),
        )
        for item in _tables(definition.get("resolvedDependencies"))
    )
    versions = ", ".join(f"{name} {_text(value)}" for name, value in sorted(_table(builder.get("version")).items()))
    return ProvenanceSummary(_text(definition.get("buildType")), _text(builder.get("id")), versions, materials)


def summarise_sbom(data: bytes) -> tuple[Component, ...] | None:
    """The components of a CycloneDX document; ``None`` for what is none."""
    document = _load(data)
    if document.get("bomFormat") != "CycloneDX":
        return None
    return tuple(
        Component(
            _text(item.get("type")),
            _text(item.get("name")),
            _text(item.get("version")),
            tuple(_licenses(item)),
        )
        for item in _tables(document.get("components"))
    )


def _licenses(component: Mapping[str, object]) -> Iterator[str]:
    for item in _tables(component.get("licenses")):
        license = _table(item.get("license"))
        found = _text(item.get("expression")) or _text(license.get("id")) or _text(license.get("name"))
        if found:
            yield found


def _load(data: bytes) -> Mapping[str, object]:
    try:
        return _table(json.loads(data))
    except (ValueError, RecursionError):
        return {}


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _tables(value: object) -> list[Mapping[str, object]]:
    return [_table(item) for item in value] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
