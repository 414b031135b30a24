"""``Profile``: the facts of one kind of hardware, as ``targets/<name>.toml`` gives them. Knows no flatpack.

A megabyte here is 1,000,000 bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, StringConstraints, model_validator

from flatpack_build.manifest.scalars import FilledText, GgufQuant, Name, Number, OnnxQuant, Text, Whole
from flatpack_build.manifest.tables import Table, problem

Architecture: TypeAlias = Literal["x86_64", "aarch64", "arm64", ""]

_TwoNumbers = Annotated[str, StringConstraints(strict=True, pattern=r"^\d+\.\d+$")]

_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}
"""The second number of the oldest glibc that wheels for the architecture were ever tagged with."""
_OLD_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_UV_GLIBC = (17, 28, *range(31, 41))
"""The second numbers of the glibc versions that uv has a platform for."""


class Profile(Table):
    """One kind of hardware: what a box for it must keep to, and what runs best on it."""

    name: Name = Field(description="The target's name: that of this file.", examples=["pi5"])
    description: Text = Field(default="", description="What it is, in a sentence.", examples=["Raspberry Pi 5, 8 GB"])
    architecture: Architecture = Field(description="x86_64, aarch64 (Linux) or arm64 (Apple).", examples=["aarch64"])
    cpu_features: tuple[FilledText, ...] = Field(
        default=(),
        description="What of the CPU decides how fast a quantisation runs: neon, fp16, dotprod, i8mm, sve; "
        "avx2, fma, f16c, avx512f, avx512_vnni, avx_vnni.",
        examples=[["neon", "fp16", "dotprod"]],
    )
    cores: Whole = Field(default=0, ge=0, description="CPU cores; 0: not known.", examples=[4])
    memory_mb: Whole = Field(
        default=0, ge=0, description="Memory, in millions of bytes; 0: not known.", examples=[8000]
    )
    model_memory_mb: Whole = Field(
        default=0,
        ge=0,
        description="How much of it a model and its cache may take, in millions of bytes; 0: not known, no limit.",
        examples=[6500],
    )
    memory_bandwidth_gbs: Number | None = Field(
        default=None, gt=0, description="Memory bandwidth in gigabytes a second.", examples=[17.0]
    )
    accelerator: Literal["none", "cuda", "metal"] = Field(
        default="none", description="The GPU's kind.", examples=["cuda"]
    )
    compute_capability: _TwoNumbers | None = Field(
        default=None, description="The CUDA compute capability.", examples=["8.7"]
    )
    device: Literal["cpu", "cuda", "mps"] = Field(default="cpu", description="What models run on.", examples=["cpu"])
    os: Literal["linux", "macos"] = Field(description="The operating system.", examples=["linux"])
    glibc: _TwoNumbers | None = Field(default=None, description="The system's glibc.", examples=["2.36"])
    python: _TwoNumbers = Field(description="The system's Python.", examples=["3.11"])
    wheel_platform: Text = Field(
        default="",
        description="uv's name of the platform (--python-platform); without it made from os, architecture and glibc.",
        examples=["aarch64-manylinux_2_36"],
    )
    wheel_tags: tuple[FilledText, ...] = Field(
        default=(),
        description="The platform tags of wheels that run there, newest first, for pip's --platform; without it made "
        "from os, architecture and glibc.",
        examples=[["manylinux_2_36_aarch64", "manylinux2014_aarch64"]],
    )
    gguf_quants: tuple[GgufQuant, ...] = Field(
        min_length=1,
        description='Quantisations for GGUF, best first: quant = "auto" takes the first that fits into memory.',
        examples=[["Q8_0", "Q6_K", "Q4_K_M", "Q4_0"]],
    )
    onnx_quants: tuple[OnnxQuant, ...] = Field(
        default=("int8", "int4"), min_length=1, description="The same for ONNX.", examples=[["int8", "int4"]]
    )
    threads: Whole = Field(
        default=0, ge=0, description="Threads to run a model with; 0: one for each core.", examples=[4]
    )
    service_manager: Literal["systemd", "launchd", "none"] = Field(
        default="none", description="What starts services on it.", examples=["systemd"]
    )

    @property
    def model_memory(self) -> int:
        """Bytes that a model and its cache may take; 0: not known, no limit."""
        return self.model_memory_mb * 1_000_000

    @model_validator(mode="before")
    @classmethod
    def _derive_wheel_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        os, architecture, glibc = (str(data.get(key, "")) for key in ("os", "architecture", "glibc"))
        return {
            **data,
            "wheel_platform": data.get("wheel_platform") or _uv_platform(os, architecture, glibc),
            "wheel_tags": data.get("wheel_tags") or _pip_tags(os, architecture, glibc),
        }

    @model_validator(mode="after")
    def _agrees(self) -> Profile:
        if self.model_memory_mb and self.memory_mb and self.model_memory_mb > self.memory_mb:
            raise problem(
                f"model_memory_mb is {self.model_memory_mb}, which is more than the memory_mb of {self.memory_mb}",
                "model_memory_mb",
            )
        wanted = {"cpu": self.accelerator, "cuda": "cuda", "mps": "metal"}[self.device]
        if self.accelerator != wanted:
            raise problem(
                f"device is {self.device!r}, but accelerator {self.accelerator!r}",
                "device",
                hint=f'write accelerator = "{wanted}", or device = "cpu"',
            )
        return self


def _minor(glibc: str) -> int:
    major, _, minor = glibc.partition(".")
    return int(minor) if major == "2" and minor.isdecimal() and len(minor) <= 3 else 0


def _uv_platform(os: str, architecture: str, glibc: str) -> str:
    if os == "macos":
        return {"arm64": "aarch64-apple-darwin", "x86_64": "x86_64-apple-darwin"}.get(architecture, "macos")
    minor = max((known for known in _UV_GLIBC if known <= _minor(glibc)), default=0)
    if architecture in _OLDEST_GLIBC and minor:
        return f"{architecture}-manylinux_2_{minor}"
    return f"{architecture}-unknown-linux-gnu" if architecture in _OLDEST_GLIBC else "linux"


def _pip_tags(os: str, architecture: str, glibc: str) -> tuple[str, ...]:
    """pip takes a ``manylinux_2_35`` tag to mean just that one, so every older one is listed; macOS tags it expands."""
    if os == "macos":
        # The version that uv resolves for when nothing else is said: the two must agree.
        return (f"macosx_13_0_{architecture}",) if architecture in ("arm64", "x86_64") else ()
    if architecture not in _OLDEST_GLIBC:
        return ()
    tags = []
    for minor in range(_minor(glibc), _OLDEST_GLIBC[architecture] - 1, -1):
        tags.append(f"manylinux_2_{minor}_{architecture}")
        if minor in _OLD_TAGS:
            tags.append(f"{_OLD_TAGS[minor]}_{architecture}")
    return (*tags, f"linux_{architecture}")
