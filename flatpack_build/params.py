"""What each step is asked to do: one frozen dataclass a step, plain data only. Every field is part of the action key,
but for those that are marked ``outside_key``: they say what a run may take, never what comes out.

So nothing else may stand here that does not change the output's bytes: no target names where the facts of the target are
meant, no absolute paths, no thread counts, no secrets. A step whose code changes its output raises its ``version``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from flatpack_build.digest import Json

INPUT_DIGESTS: Final = "input digests"
"""An input that no action declares: a JSON file, input name -> its tree (``Tree.encode``; a file: one entry, of path
``""``). Steps whose parameters say ``wants_digests`` may be given it, and read large files once instead of twice."""


def outside_key(default: int | float) -> Any:
    """A field that changes how a step is run, and never a byte of its output."""
    return dataclasses.field(default=default, metadata={"outside key": True})


class Params:
    """Base of all parameter types.

    ``step`` names the step, ``version`` counts changes of what it produces, ``tools`` are the distributions whose
    version decides the output, ``isolated`` says it loads native libraries and so runs in a process of its own,
    ``wants_digests`` that it can use ``INPUT_DIGESTS``, and checks what it reads against them.
    """

    step: ClassVar[str]
    version: ClassVar[int] = 1
    tools: ClassVar[tuple[str, ...]] = ()
    isolated: ClassVar[bool] = False
    wants_digests: ClassVar[bool] = False

    def to_json(self) -> dict[str, Json]:
        """All fields: what ``params_from_json`` makes an equal object from."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def key_json(self) -> dict[str, Json]:
        """The fields that are part of the action key."""
        outside = {
            field.name
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if "outside key" in field.metadata
        }
        return {name: value for name, value in self.to_json().items() if name not in outside}


@dataclass(frozen=True)
class FetchParams(Params):
    """Bring one locked source. ``source`` is as the lock spells it, ``files`` what must come out:
    path below ``out`` -> sha256. An empty ``files`` means a whole tree whose digest is ``identity["tree"]``.

    ``wheels:<platform>`` (a platform as uv names it) brings the Python wheels in ``files`` (file name -> sha256):
    ``identity["python"]`` is the device's minor version. A ``file:`` source comes as input ``file``.
    """

    step: ClassVar[str] = "fetch"
    isolated: ClassVar[bool] = True
    source: str
    files: Mapping[str, str]
    """Path below ``out`` -> sha256 of that file."""
    identity: Mapping[str, str]
    """What the lock adds to the source: commit, wheel file name and sha256, hub revision, ..."""
    size: int = outside_key(0)
    """Bytes of all files, so that nobody sends more; 0: not known."""


@dataclass(frozen=True)
class VerifyParams(Params):
    """Check one fetched file (input ``file``) and hand it on unchanged as ``out/<name>``.

    ``sha256`` is the pinned digest. With ``public_keys`` (PEM texts) the detached RSA-PSS signature in input
    ``signature`` must be by one of them. ``format`` is ``gguf``, ``onnx`` or ``any``.
    """

    step: ClassVar[str] = "verify"
    name: str
    sha256: str
    format: str
    public_keys: tuple[str, ...] = ()
    signature_hash: str = "sha256"


@dataclass(frozen=True)
class ConvertParams(Params):
    """Turn a GGUF (input ``model``) into one of float tensors, ``F16``, ``BF16`` or ``F32``: ``out/model.gguf``."""

    step: ClassVar[str] = "convert"
    tools: ClassVar[tuple[str, ...]] = ("llama-cpp-python",)
    isolated: ClassVar[bool] = True
    quant: str


@dataclass(frozen=True)
class CompressParams(Params):
    """Quantise a GGUF (input ``model``) to ``quant``: ``out/model.gguf``, and facts about it in ``out/model.json``."""

    step: ClassVar[str] = "compress"
    tools: ClassVar[tuple[str, ...]] = ("llama-cpp-python",)
    isolated: ClassVar[bool] = True
    quant: str


@dataclass(frozen=True)
class DeviceParams(Params):
    """Generate ``out/device.sh`` from the facts of a kind of hardware."""

    step: ClassVar[str] = "device"
    tools: ClassVar[tuple[str, ...]] = ("jinja2",)
    flatpack: str
    device: str
    """``cpu``, ``cuda`` or ``mps``: what the box is built for."""
    architecture: str
    """``x86_64``, ``aarch64`` or ``arm64`` (Apple); empty: any."""
    threads: int
    """Threads to run the model with; 0: as many as the device has cores."""
    memory_mb: int
    """What the model and its cache may take; 0: not known."""
    service_manager: str
    """``systemd``, ``launchd`` or ``none``."""
    python: str
    """Minor version of the device's Python, such as ``3.11``; empty: any."""


@dataclass(frozen=True)
class RunParams(Params):
    """Run one declared build step in a sandbox: ``command`` with the shell over a copy of its declared inputs
    (its inputs are trees, laid over each other), its declared ``outputs`` (paths, patterns with ``*``) become ``out``."""

    step: ClassVar[str] = "run"
    name: str
    command: str
    outputs: tuple[str, ...]
    environment: Mapping[str, str]
    cores: int = outside_key(0)
    """How many cores it keeps busy; 0: one."""
    memory_mb: int = outside_key(0)
    """How much memory it may need, in MB (10^6 bytes); 0: not said."""
    timeout_seconds: float = outside_key(0)
    """When to stop it; 0: never."""


@dataclass(frozen=True)
class AssembleParams(Params):
    """Put together what goes into the box but for model, index and documents, as the tree ``out``.

    Inputs are trees; ``places`` says where each goes: input name -> folder in the box (``""``: its top).
    The flatpack's own files are input ``own``; a file of ``own`` wins over a generated one.
    """

    step: ClassVar[str] = "assemble"
    tools: ClassVar[tuple[str, ...]] = ("jinja2",)
    flatpack: str
    title: str
    description: str
    places: Mapping[str, str]
    directories: tuple[str, ...]
    """Folders that must exist, relative to the flatpack's."""


@dataclass(frozen=True)
class IndexParams(Params):
    """Documents (input ``docs``: a tree; input ``embedder``: a tree with ``table.safetensors`` and ``tokenizer.json``)
    -> ``out/index.hnsw``, ``out/chunks.jsonl``, ``out/index.json``."""

    step: ClassVar[str] = "index"
    tools: ClassVar[tuple[str, ...]] = ("hnswlib", "numpy", "tokenizers", "safetensors", "pypdf")
    isolated: ClassVar[bool] = True
    embedder: str = "static"
    chunk_sentences: int = 5
    m: int = 16
    ef_construction: int = 200
    seed: int = 100


@dataclass(frozen=True)
class PackParams(Params):
    """Everything into one reproducible ``out/payload.tar.zst`` with a payload manifest inside and beside it
    (``out/payload.json``).

    Inputs are files and trees; ``places`` says where each goes: input name -> path in the box (a file's own path,
    a tree's folder; ``""``: the top). ``manifest`` is the resolved ``flatpack.toml`` for this target, as JSON;
    ``materials`` what the box is made of (``Materials.encode``), for ``out/provenance.json`` and ``out/sbom.cdx.json``,
    which go into the payload too.
    """

    step: ClassVar[str] = "pack"
    version: ClassVar[int] = 2
    tools: ClassVar[tuple[str, ...]] = ("cyclonedx-python-lib", "tomlkit", "zstandard")
    isolated: ClassVar[bool] = True
    wants_digests: ClassVar[bool] = True
    flatpack: str
    flatpack_version: str
    target: str
    places: Mapping[str, str]
    manifest: str
    materials: str = ""
    level: int = 3


PARAMS: dict[str, type[Params]] = {
    kind.step: kind
    for kind in (
        FetchParams, VerifyParams, ConvertParams, CompressParams, DeviceParams, RunParams, AssembleParams,
        IndexParams, PackParams,
    )
}  # fmt: skip


def params_from_json(step: str, value: Mapping[str, Any]) -> Params:
    """The inverse of ``Params.to_json`` after a trip through JSON. Raises ``KeyError`` or ``TypeError``."""
    kind = PARAMS[step]
    return kind(**{name: tuple(item) if isinstance(item, list) else item for name, item in value.items()})
