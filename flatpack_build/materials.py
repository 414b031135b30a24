"""``Materials``: what goes into one box as far as it is known before anything is built: sources, wheels, steps, licences.

Plain data that the plan writes and the pack step reads, as one JSON text. Knows neither; decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from flatpack_build.digest import Json, canonical_json

Role = Literal["model", "signature", "embedder", "git", "file", "dataset"]


@dataclass(frozen=True)
class SourceUse:
    """A locked source and what it is for. ``source``, ``files`` (path -> sha256) and ``identity`` are the lock's;
    ``place`` is where it comes to lie in the box (empty: it does not), ``licenses`` SPDX expressions or names."""

    role: Role
    source: str
    files: Mapping[str, str]
    identity: Mapping[str, str]
    place: str = ""
    licenses: tuple[str, ...] = ()
    note: str = ""
    """A sentence about where it comes from, for whoever reads the SBOM."""


@dataclass(frozen=True)
class WheelUse:
    """A Python wheel in the box."""

    name: str
    version: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class StepUse:
    """A step that made something of the box, and its parameters."""

    step: str
    version: int
    parameters: Mapping[str, Json]


@dataclass(frozen=True)
class ModelUse:
    """How the model goes into the box: ``quantisation`` as it is there, ``original`` as it was at its source."""

    format: str
    quantisation: str = ""
    original: str = ""


@dataclass(frozen=True)
class Materials:
    """Everything of one box. ``builder`` is the version of this program, ``license`` and ``description`` the flatpack's."""

    builder: str = ""
    license: str = ""
    description: str = ""
    model: ModelUse | None = None
    sources: tuple[SourceUse, ...] = ()
    wheels: tuple[WheelUse, ...] = ()
    steps: tuple[StepUse, ...] = ()

    def encode(self) -> str:
        # By hand: dataclasses.asdict copies each value deeply, and a walk of a large warehouse comes here for every box.
        value = {
            **vars(self),
            "model": vars(self.model) if self.model else None,
            "sources": [vars(source) for source in self.sources],
            "wheels": [vars(wheel) for wheel in self.wheels],
            "steps": [vars(step) for step in self.steps],
        }
        return canonical_json(value).decode()

    @classmethod
    def decode(cls, text: str) -> Materials:
        """The inverse of ``encode``. Raises ``ValueError``."""
        try:
            value = json.loads(text)
            sources = tuple(SourceUse(**{**item, "licenses": tuple(item["licenses"])}) for item in value.pop("sources"))
            wheels = tuple(WheelUse(**item) for item in value.pop("wheels"))
            steps = tuple(StepUse(**item) for item in value.pop("steps"))
            model = value.pop("model")
            found = cls(
                **value, model=ModelUse(**model) if model else None, sources=sources, wheels=wheels, steps=steps
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"these are no materials: {error}") from error
        if unknown := {source.role for source in found.sources} - set(get_args(Role)):
            raise ValueError(f"these are no materials: there is no role {unknown.pop()!r}")
        return found
