"""The tables of ``flatpack.toml``, one frozen class each. Knows no file and no target.

Every field carries a description and an example: errors quote them, and editors show them from the JSON schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from flatpack_build.manifest.scalars import (
    Command,
    FilledText,
    GgufQuant,
    HashName,
    InnerPath,
    ModelFormat,
    Name,
    Number,
    OnnxQuant,
    Patterns,
    PortNumber,
    Quant,
    Sha256,
    Source,
    Text,
    Whole,
)

GGUF_QUANTS: tuple[str, ...] = get_args(GgufQuant)
ONNX_QUANTS: tuple[str, ...] = get_args(OnnxQuant)


class Table(BaseModel):
    """Base of all tables: frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), ser_json_inf_nan="strings")


def problem(message: str, *at: str | int, hint: str = "") -> PydanticCustomError:
    """An error that is about the key ``at`` below the table that raises it."""
    return PydanticCustomError("flatpack", "{message}", {"message": message, "at": at, "hint": hint})


class Environment(Table):
    """Who the flatpack is."""

    model_name: Name = Field(
        description="The flatpack's name; its folder in the warehouse is called the same.",
        examples=["smollm2-chat"],
    )
    python_version: Text = Field(default="", description="The Python that its scripts need.", examples=["3.11"])


class Port(Table):
    """A port that the flatpack listens on."""

    external: PortNumber = Field(description="The port that others connect to.", examples=[8000])
    internal: PortNumber = Field(description="The port that the program listens on.", examples=[8000])


class Packages(Table):
    """What its scripts need to be installed: name = version, "*" for any."""

    unix: Mapping[FilledText, Text] = Field(
        default_factory=dict, description="Packages of the operating system.", examples=[{"ffmpeg": "*"}]
    )
    python: Mapping[FilledText, Text] = Field(
        default_factory=dict,
        description='Python packages: an exact version, a specifier such as ">=1.26,<3", or "*".',
        examples=[{"numpy": "1.26.4"}],
    )


class Git(Table):
    """A git repository to clone into the flatpack."""

    from_source: Text = Field(description="The repository's URL.", examples=["https://example.org/tools.git"])
    to_destination: Text = Field(
        description="The folder for it: relative, or below /home/content/, which means the same.",
        examples=["/home/content/tools"],
    )
    branch: Text | None = Field(
        default=None, description="Branch, tag or commit; without it the default.", examples=["main"]
    )
    setup_commands: tuple[Text, ...] = Field(
        default=(), description="Commands to run inside the clone.", examples=[["make"]]
    )
    requirements_file: Text | None = Field(
        default=None, description="A requirements file inside the clone.", examples=["requirements.txt"]
    )


class File(Table):
    """A file to put into the flatpack."""

    from_source: Text = Field(
        description="Where it comes from: a URL, or a path inside the flatpack's folder.",
        examples=["https://example.org/words.txt"],
    )
    to_destination: Text = Field(
        description="Where it goes: relative, or below /home/content/, which means the same.",
        examples=["/home/content/words.txt"],
    )


class Dataset(Table):
    """A data set to put into the flatpack."""

    from_source: Text = Field(
        description="Where it comes from: a URL, or a path inside the flatpack's folder.",
        examples=["https://example.org/questions.csv"],
    )
    to_destination: Text = Field(
        description="Where it goes: relative, or below /home/content/, which means the same.",
        examples=["/home/content/questions.csv"],
    )


class Run(Table):
    """A command that prepares the flatpack on the device."""

    command: Text = Field(description="The command.", examples=["chmod +x"])
    args: Text | None = Field(default=None, description="Its arguments.", examples=["+x /home/content/build.sh"])
    file: Text | None = Field(default=None, description="The file it is run on.", examples=["build.sh"])


class Cmd(Table):
    """What starts the flatpack on the device."""

    command: Text = Field(description="The command.", examples=["bash"])
    args: Text | None = Field(default=None, description="Its arguments.", examples=["/home/content/build.sh"])
    file: Text | None = Field(default=None, description="The file it is run on.", examples=["build.sh"])


class Script(Table):
    """A script of the oldest flatpacks."""

    command: Text = Field(description="The command.", examples=["bash"])
    args: Text | None = Field(default=None, description="Its arguments.", examples=["build.sh"])
    working_directory: Text | None = Field(default=None, description="Where it is run.", examples=["/home/content"])


class Model(Table):
    """The model that goes into the box."""

    source: Source = Field(
        description="Where the model comes from: file:, https:, git+https:...@rev, hf:org/repo@rev#file, "
        "pypi:name==version#member, or a path in the flatpack's folder.",
        examples=["hf:org/repo@main#model.gguf"],
    )
    sha256: Sha256 | None = Field(
        default=None, description="The digest that the file must have.", examples=["sha256:" + "0123456789abcdef" * 4]
    )
    signature: Source | None = Field(
        default=None,
        description="Where the model's detached RSA-PSS signature comes from.",
        examples=["https://example.org/model.gguf.sig"],
    )
    signature_hash: HashName = Field(
        default="sha256", description="The hash that the signature was made with.", examples=["sha256"]
    )
    public_keys: tuple[FilledText, ...] = Field(
        default=(),
        description="PEM files of the keys that may have signed the model, in the flatpack's folder or the project's. "
        "Without any: the project's trusted keys.",
        examples=[["keys/vendor.pub.pem"]],
    )
    format: ModelFormat | None = Field(
        default=None, description="What kind of file it is; without it the file's suffix says.", examples=["gguf"]
    )
    quant: Quant = Field(
        default="auto",
        description="The quantisation: auto (the best that fits the hardware), keep (the file as it is), or a name. "
        "int8 and int4 are for ONNX, the others for GGUF.",
        examples=["Q4_K_M"],
    )
    context: Whole | None = Field(
        default=None, ge=1, description="The longest text it works on at once, in tokens.", examples=[2048]
    )
    license: Text = Field(
        default="", description="The model's licence, as an SPDX expression or a name.", examples=["Apache-2.0"]
    )

    @property
    def file_format(self) -> ModelFormat | None:
        """``format``, or what the suffix of the source's file says; ``None`` when neither does."""
        if self.format:
            return self.format
        suffix = re.search(r"\.(gguf|onnx)(?:[?@].*)?$", self.source, re.IGNORECASE)
        if not suffix:
            return None
        return "gguf" if suffix[1].lower() == "gguf" else "onnx"

    @model_validator(mode="after")
    def _agrees(self) -> Model:
        kind = self.file_format
        if kind == "gguf" and self.quant in ONNX_QUANTS:
            raise problem(f"{self.quant} is for ONNX models, but this one is GGUF", "quant", hint='use quant = "auto"')
        if kind == "onnx" and self.quant in GGUF_QUANTS:
            raise problem(
                f"{self.quant} is for GGUF models, but this one is ONNX", "quant", hint='use quant = "int8" or "auto"'
            )
        if self.public_keys and not self.signature:
            raise problem(
                "public_keys are given but no signature, so nothing would be checked",
                "public_keys",
                hint="add the signature's source to [model], or take public_keys out",
            )
        return self


class Docs(Table):
    """Documents to index, for answers that draw on them."""

    files: Patterns = Field(
        description="Paths or patterns (* and **) relative to the flatpack's folder.",
        examples=[["README.md", "manual/*.pdf"]],
    )
    embedder: Literal["static"] = Field(
        default="static", description="What turns text into vectors.", examples=["static"]
    )
    chunk_sentences: Whole = Field(default=5, ge=1, description="Sentences in one indexed piece of text.", examples=[5])


class Quality(Table):
    """How much quality the quantised model may lose before the build fails."""

    max_kl_divergence: Number | None = Field(
        default=None, ge=0, description="Mean Kullback-Leibler divergence from the unquantised model.", examples=[0.5]
    )
    max_perplexity: Number | None = Field(
        default=None, ge=1, description="Perplexity of the quantised model.", examples=[20.0]
    )


class Agent(Table):
    """How the flatpack is served."""

    port: PortNumber = Field(default=8000, description="The port that the agent listens on.", examples=[8000])
    system_prompt: Text = Field(
        default="",
        description="What the model is told before each question.",
        examples=["Answer in one short sentence."],
    )
    script: InnerPath | None = Field(
        default=None, description="An agent of your own, in the flatpack's folder.", examples=["agent.py"]
    )


class BuildStep(Table):
    """A build step of your own. It runs in a sandbox without network and sees only its declared inputs."""

    LIMITS: ClassVar[frozenset[str]] = frozenset({"cores", "memory_mb", "timeout_seconds"})
    """The keys that say how it is run, not what it makes."""

    command: Command = Field(
        description="A line for the shell, or a list with the program and its arguments.",
        examples=["python3 make_words.py > words.json"],
    )
    inputs: tuple[InnerPath, ...] = Field(
        default=(),
        description="Paths or patterns relative to the flatpack's folder. One that names an output of another build "
        "step makes this step run after that one.",
        examples=[["make_words.py", "data/*.csv"]],
    )
    outputs: tuple[InnerPath, ...] = Field(
        min_length=1,
        description="What it makes: files, folders or patterns, relative to the flatpack's folder.",
        examples=[["words.json"]],
    )
    environment: Mapping[FilledText, Text] = Field(
        default_factory=dict, description="Environment variables for the command.", examples=[{"LANG": "C.UTF-8"}]
    )
    per_target: bool = Field(
        False,
        strict=True,
        description="Run it once for each target, with FLATPACK_TARGET, FLATPACK_ARCHITECTURE and FLATPACK_DEVICE set.",
        examples=[True],
    )
    cores: Whole | None = Field(
        default=None, ge=1, description="How many cores it keeps busy; 1 if not said.", examples=[2]
    )
    memory_mb: Whole | None = Field(
        default=None,
        ge=1,
        description="How much memory it may need, in MB. Steps that do not fit into the machine's memory together do "
        "not run together.",
        examples=[500],
    )
    timeout_seconds: Number | None = Field(
        default=None, gt=0, description="Stop it after so many seconds, and fail.", examples=[600]
    )
