"""``Manifest``: the whole of a ``flatpack.toml``, frozen. Knows no file, no profile and no lock."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import Field, create_model, model_validator

from flatpack_build.digest import Json
from flatpack_build.host import HOST
from flatpack_build.manifest import build_steps
from flatpack_build.manifest.scalars import Name, Text, Version
from flatpack_build.manifest.tables import (
    Agent,
    BuildStep,
    Cmd,
    Dataset,
    Docs,
    Environment,
    File,
    Git,
    Model,
    Packages,
    Port,
    Quality,
    Run,
    Script,
    Table,
    problem,
)


class _ForEveryTarget(Table):
    """Anything of the manifest, for one target: tables are merged, lists and values replaced."""

    description: Text = Field(
        default="", description="What the flatpack is, in a sentence.", examples=["A chat assistant"]
    )
    license: Text = Field(default="", description="Its licence, as an SPDX expression.", examples=["Apache-2.0"])
    base_image: Text | None = Field(
        default=None, description="The container image of older flatpacks.", examples=["ubuntu:22.04"]
    )
    model: Model | None = Field(
        default=None,
        description="The model that goes into the box.",
        examples=[{"source": "hf:org/repo@main#model.gguf", "quant": "auto"}],
    )
    docs: Docs | None = Field(
        default=None, description="Documents to index.", examples=[{"files": ["README.md", "manual/*.pdf"]}]
    )
    quality: Quality | None = Field(
        default=None, description="How much quality may be lost.", examples=[{"max_kl_divergence": 0.5}]
    )
    agent: Agent | None = Field(default=None, description="How the flatpack is served.", examples=[{"port": 8000}])
    packages: Packages = Field(
        default_factory=Packages,
        description="What its scripts need to be installed.",
        examples=[{"python": {"numpy": "1.26.4"}}],
    )
    directories: Mapping[Text, Text] = Field(
        default_factory=dict,
        description="Folders to make, by any name: relative, or below /home/content/, which means the same.",
        examples=[{"models": "/home/content/models"}],
    )
    port: tuple[Port, ...] = Field(
        default=(), description="Ports that it listens on.", examples=[[{"external": 8000, "internal": 8000}]]
    )
    git: tuple[Git, ...] = Field(
        default=(),
        description="Git repositories to clone.",
        examples=[[{"from_source": "https://example.org/tools.git", "to_destination": "/home/content/tools"}]],
    )
    file: tuple[File, ...] = Field(
        default=(),
        description="Files to add.",
        examples=[[{"from_source": "https://example.org/words.txt", "to_destination": "/home/content/words.txt"}]],
    )
    dataset: tuple[Dataset, ...] = Field(
        default=(),
        description="Data sets to add.",
        examples=[[{"from_source": "https://example.org/q.csv", "to_destination": "/home/content/q.csv"}]],
    )
    run: tuple[Run, ...] = Field(
        default=(), description="Commands that prepare it.", examples=[[{"command": "chmod +x", "file": "build.sh"}]]
    )
    cmd: tuple[Cmd, ...] = Field(
        default=(), description="What starts it.", examples=[[{"command": "bash", "file": "build.sh"}]]
    )
    script: tuple[Script, ...] = Field(
        default=(), description="Scripts of the oldest flatpacks.", examples=[[{"command": "bash", "args": "build.sh"}]]
    )
    build: Mapping[Name, BuildStep] = Field(
        default_factory=dict,
        description="Build steps of your own, by name.",
        examples=[{"words": {"command": "python3 make.py", "inputs": ["make.py"], "outputs": ["words.json"]}}],
    )


def _partial(kind: type[Table], name: str, replaced: Mapping[str, object] = MappingProxyType({})) -> type[Table]:
    """``kind`` as ``name``, with no key required and no check across keys: those come after merging."""
    fields: dict[str, Any] = {}
    for key, info in kind.model_fields.items():
        loose = copy.copy(info)
        loose.default, loose.default_factory = None, None
        loose.json_schema_extra = _without_default
        fields[key] = (replaced.get(key, info.annotation), loose)
    return create_model(name, __base__=Table, __module__=__name__, __doc__=kind.__doc__, **fields)


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


# Each is bound to the name it is made with, or a manifest could not be pickled.
ModelOverride = _partial(Model, "ModelOverride")
DocsOverride = _partial(Docs, "DocsOverride")
QualityOverride = _partial(Quality, "QualityOverride")
AgentOverride = _partial(Agent, "AgentOverride")
BuildStepOverride = _partial(BuildStep, "BuildStepOverride")
TargetOverride = _partial(
    _ForEveryTarget,
    "TargetOverride",
    {
        "model": ModelOverride,
        "docs": DocsOverride,
        "quality": QualityOverride,
        "agent": AgentOverride,
        "build": Mapping[Name, BuildStepOverride],  # type: ignore[valid-type]  # made at run time from the fields
    },
)


class Manifest(_ForEveryTarget):
    """A flatpack.toml: what goes into a flatpack and what it is built for."""

    version: Version = Field(description="The flatpack's version.", examples=["0.1.0"])
    targets: tuple[Name, ...] = Field(
        default=(),
        description="The kinds of hardware to build for; without any: the machine one is on.",
        examples=[["laptop", "pi5", "jetson-orin-nano"]],
    )
    environment: Environment = Field(description="Who the flatpack is.", examples=[{"model_name": "smollm2-chat"}])
    target: Mapping[Name, TargetOverride] = Field(  # type: ignore[valid-type]  # made at run time from the fields
        default_factory=dict,
        description="Anything above, for one target.",
        examples=[{"pi5": {"model": {"quant": "Q4_0"}}}],
    )

    @property
    def name(self) -> str:
        return self.environment.model_name

    @property
    def build_targets(self) -> tuple[str, ...]:
        """``targets``, or ``("host",)`` when it names none."""
        return self.targets or (HOST,)

    def for_target(self, name: str) -> Manifest:
        """This manifest as it is for one target: its override merged in, ``targets`` only that one, no overrides left.

        Says nothing about whether the flatpack is meant for that target. Raises pydantic's ``ValidationError`` when
        the merged manifest is not valid, which one from ``parse_manifest`` never is.
        """
        whole = self.model_dump(exclude_unset=True, exclude={"target", "targets"})
        override = self.target.get(name)
        if override is not None:
            whole = _merged(whole, override.model_dump(exclude_unset=True))
        return type(self).model_validate({**whole, "targets": (name,)})

    def resolved(self) -> dict[str, Json]:
        """What differs from the defaults, as plain JSON: equal for manifests that mean the same."""
        plain: dict[str, Json] = self.model_dump(mode="json", exclude_defaults=True)
        return plain

    def build_dependencies(self) -> dict[str, tuple[str, ...]]:
        """For each ``[build.<name>]`` the names of the build steps whose outputs it takes."""
        return build_steps.dependencies(self.build)

    @model_validator(mode="after")
    def _agrees(self) -> Manifest:
        for index, name in enumerate(self.targets):
            if name in self.targets[:index]:
                raise problem(f"the target {name!r} is named twice", "targets", index, hint="take one of the two out")
        for name in self.target:
            if name not in self.build_targets:
                known = ", ".join(self.build_targets)
                raise problem(
                    f"[target.{name}] is for a target that is not built (built are: {known})",
                    "target",
                    name,
                    hint=f'add "{name}" to targets, or take [target.{name}] out',
                )
        self._check_build_steps()
        return self

    def _check_build_steps(self) -> None:
        maker: dict[str, str] = {}
        for name, step in self.build.items():
            for index, output in enumerate(step.outputs):
                other = maker.setdefault(output, name)
                if other != name:
                    raise problem(
                        f"{output!r} is an output of build step {other!r} too",
                        "build",
                        name,
                        "outputs",
                        index,
                        hint="each output is made by one build step",
                    )
        cycle = build_steps.find_cycle(self.build_dependencies())
        if cycle:
            way = " needs ".join((*cycle, cycle[0]))
            raise problem(
                f"build steps wait for each other: {way}",
                "build",
                cycle[0],
                "inputs",
                hint="name the inputs more narrowly, or put the steps into one",
            )


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
