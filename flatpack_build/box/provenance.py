"""Provenance: an in-toto Statement with SLSA's predicate about how a box was made. Makes and reads the JSON of it.

What is in a box depends on what went into it and nothing else: no clock, no machine, no path. Facts of one run stand
only in the copy beside the box (``beside``). Knows no builder and no step.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flatpack_build.box.locators import locator, wheel_purl
from flatpack_build.box.payload import PayloadManifest
from flatpack_build.digest import Json, canonical_json
from flatpack_build.errors import BoxError
from flatpack_build.materials import Materials, SourceUse

PROVENANCE_NAME: Final = "provenance.json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:flatpack-build:build:v1"
BUILDER_ID: Final = "urn:flatpack-build:builder"


@dataclass(frozen=True)
class ActionFacts:
    """One action of a run: its key, what that was made of (``parts``, the walk), and what it gave."""

    name: str
    key: str
    output: str
    seconds: float
    notes: tuple[str, ...]
    parts: tuple[tuple[str, Json], ...]


@dataclass(frozen=True)
class RunFacts:
    """What is true of one run only. Times are seconds since 1970; ``versions`` are programs and packages."""

    started: float
    finished: float
    versions: Mapping[str, str]
    actions: Sequence[ActionFacts]


def encode_statement(statement: Mapping[str, Json]) -> bytes:
    """One spelling for each statement, readable by people."""
    return json.dumps(statement, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def statement(contents: PayloadManifest, manifest: Json, materials: Materials) -> dict[str, Json]:
    """The statement that goes into a box: its subjects are all other files, ``contents``."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": file.path, "digest": {"sha256": file.sha256}} for file in contents.files],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "flatpack": contents.flatpack,
                    "version": contents.version,
                    "target": contents.target,
                    "manifest": manifest,
                },
                "internalParameters": {
                    "steps": [
                        {"step": use.step, "version": use.version, "parameters": use.parameters}
                        for use in materials.steps
                    ]
                },
                "resolvedDependencies": [*_sources(materials.sources), *_wheels(materials)],
            },
            "runDetails": {"builder": {"id": BUILDER_ID, "version": {"flatpack-build": materials.builder}}},
        },
    }


def beside(inside: Mapping[str, Json], subjects: Mapping[str, str], run: RunFacts) -> dict[str, Json]:
    """The statement that stands beside a box: that of its inside about ``subjects`` (name -> sha256: the box and its
    payload), with the facts of the run that made it."""
    predicate = _table(inside, "predicate")
    definition, details = _table(predicate, "buildDefinition"), _table(predicate, "runDetails")
    internal = _table(definition, "internalParameters")
    actions: list[Json] = [
        {
            "name": action.name,
            "key": action.key,
            "output": {"sha256": action.output},
            "seconds": action.seconds,
            "notes": list(action.notes),
            **_walked(action.parts),
        }
        for action in run.actions
    ]
    builder = {**_table(details, "builder")}
    builder["version"] = {**run.versions, **_table(builder, "version")}
    return {
        **inside,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()],
        "predicate": {
            "buildDefinition": {**definition, "internalParameters": {**internal, "actions": actions}},
            "runDetails": {
                "builder": builder,
                "metadata": {"startedOn": _time(run.started), "finishedOn": _time(run.finished)},
            },
        },
    }


def read_statement(data: bytes) -> dict[str, Json]:
    """Raises ``BoxError`` when ``data`` is no statement of this program's."""
    try:
        value = json.loads(data)
        if (value["_type"], value["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise BoxError("this is no SLSA provenance", hint="it was made by something else")
        build_type = value["predicate"]["buildDefinition"]["buildType"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BoxError(f"the {PROVENANCE_NAME} is damaged") from None
    if build_type != BUILD_TYPE:
        raise BoxError(f"the provenance is of another kind of build: {build_type!r}")
    assert isinstance(value, dict)
    return value


def tool_versions(statement: Mapping[str, Json]) -> dict[str, str]:
    """Program or package -> version, as far as a statement says it: much in one from beside a box, little in one from
    the inside."""
    predicate = _table(statement, "predicate")
    versions = dict(_table(_table(_table(predicate, "runDetails"), "builder"), "version"))
    actions = _table(_table(predicate, "buildDefinition"), "internalParameters").get("actions", ())
    if isinstance(actions, Sequence) and not isinstance(actions, str):
        for action in actions:
            versions.update(_table(action, "tools"))
    return {name: str(version) for name, version in sorted(versions.items())}


def parameters_of(statement: Mapping[str, Json]) -> Mapping[str, Json]:
    """What was asked for: ``flatpack``, ``version``, ``target``, ``manifest``."""
    return _table(_table(_table(statement, "predicate"), "buildDefinition"), "externalParameters")


def dependencies_of(statement: Mapping[str, Json]) -> dict[str, str]:
    """Source -> its digests, as one text each."""
    found = _table(_table(statement, "predicate"), "buildDefinition").get("resolvedDependencies", ())
    if not isinstance(found, Sequence) or isinstance(found, str):
        return {}
    return {
        f"{_table(item).get('uri')} ({_table(item).get('name')})": canonical_json(_table(item, "digest")).decode()
        for item in found
    }


def _table(value: Json, key: str = "") -> Mapping[str, Json]:
    """``value``, or what it has at ``key``, where that is an object; else an empty one. Statements come from elsewhere."""
    found = value.get(key) if key and isinstance(value, Mapping) else value
    return found if isinstance(found, Mapping) else {}


def _sources(uses: Sequence[SourceUse]) -> list[Json]:
    found: list[Json] = []
    for use in uses:
        annotations: dict[str, Json] = {"role": use.role, "source": use.source, **use.identity}
        for name, digest in use.files.items():
            found.append(
                {
                    "name": name,
                    "uri": locator(use.source, use.identity, name),
                    "digest": {"sha256": digest},
                    "annotations": annotations,
                }
            )
        if not use.files:
            found.append(
                {
                    "name": use.place or use.role,
                    "uri": locator(use.source, use.identity),
                    "digest": {"gitCommit": use.identity.get("commit", "")},
                    "annotations": annotations,
                }
            )
    return found


def _wheels(materials: Materials) -> list[Json]:
    return [
        {
            "name": wheel.filename,
            "uri": wheel_purl(wheel.name, wheel.version),
            "digest": {"sha256": wheel.sha256},
            "annotations": {"role": "wheel"},
        }
        for wheel in materials.wheels
    ]


def _walked(parts: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    """The parts of an action key, by their kinds."""
    plain: dict[str, Json] = {}
    sorted_out: dict[str, dict[str, Json]] = {"tools": {}, "inputs": {}}
    for name, value in parts:
        kind, _, rest = name.partition(" ")
        if kind == "tool":
            sorted_out["tools"][rest] = value
        elif kind == "input":
            sorted_out["inputs"][rest] = value
        elif kind == "step":
            plain["version" if rest else "step"] = value
    return {**plain, **sorted_out}


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
