"""Manifest, lock and profiles -> graph of actions. Pure: reads no file, knows no store and no doit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from flatpack_build import __version__
from flatpack_build.action import Action, Input, Output, SourceFile, SourceTree, task_name
from flatpack_build.bill import model_use, source_use, steps_behind, wheel_uses
from flatpack_build.digest import Json, canonical_json
from flatpack_build.errors import Place, PlanError
from flatpack_build.graph import BoxPlan, Graph, in_order
from flatpack_build.manifest.build_steps import takes
from flatpack_build.manifest.lock import Lock, LockedSource
from flatpack_build.manifest.model import Manifest
from flatpack_build.manifest.tables import BuildStep, Dataset, File, Model
from flatpack_build.materials import Materials, Role, SourceUse, WheelUse
from flatpack_build.needs import EMBEDDER_SOURCE, git_source, is_remote, wheels_need
from flatpack_build.params import (
    AssembleParams,
    CompressParams,
    ConvertParams,
    DeviceParams,
    IndexParams,
    PackParams,
    Params,
    RunParams,
    VerifyParams,
)
from flatpack_build.patterns import select
from flatpack_build.quants import DEFAULT_CONTEXT, FLOATS, choose
from flatpack_build.targets import Profile

# In old flatpacks this prefix means "below the flatpack's own folder".
_OLD_ROOT = "/home/content/"
_MODEL_FOLDER = "models"
_INDEX_FOLDER = "vector"
_EMBEDDER_FOLDER = "vector/embedder"
_WHEELS_FOLDER = "wheels"
# What a flatpack's folder holds for the builder only.
_NOT_PACKED = ("flatpack.toml", "flatpack.lock", "**/*.fpk", "**/*.pyc")


@dataclass(frozen=True)
class Question:
    """What a plan is made from. ``files`` are the paths in the flatpack's ``folder``; ``where`` says where a key stands."""

    manifest: Manifest
    folder: str
    files: tuple[str, ...]
    lock: Lock
    profiles: Mapping[str, Profile]
    trusted_keys: tuple[str, ...]
    where: Callable[[tuple[str | int, ...]], Place]
    read_text: Callable[[str], str]
    """Reads a small text file by its path relative to ``folder`` (public keys)."""


def plan(question: Question) -> Graph:
    """The graph for all targets in ``question.profiles``. Raises ``PlanError`` with a place."""
    actions: dict[str, Action] = {}
    boxes = []
    for target, profile in question.profiles.items():
        builder = _TargetPlan(question, question.manifest.for_target(target), target, profile, actions)
        boxes.append(builder.box())
    name = question.manifest.name
    return Graph(name, in_order(name, actions.values()), tuple(boxes))


def _without_limits(resolved: Mapping[str, Json]) -> dict[str, Json]:
    """What a build step may take concerns the machine that builds: a box is the same whatever the limits were."""
    steps = resolved.get("build")
    if not isinstance(steps, Mapping):
        return dict(resolved)
    kept = {
        name: {key: value for key, value in step.items() if key not in BuildStep.LIMITS}
        for name, step in steps.items()
        if isinstance(step, Mapping)
    }
    return {**resolved, "build": kept}


def below_folder(path: str) -> str | None:
    """A path of the manifest as one relative to the flatpack's folder; ``None`` when it leads elsewhere."""
    relative = path.removeprefix(_OLD_ROOT).rstrip("/") or "."
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts:
        return None
    return "" if str(pure) == "." else str(pure)


class _TargetPlan:
    """The actions of one target, added to those of the others: an action that is the same for all is there once."""

    def __init__(
        self, question: Question, manifest: Manifest, target: str, profile: Profile, actions: dict[str, Action]
    ) -> None:
        self.question = question
        self.manifest = manifest
        self.target = target
        self.profile = profile
        self.actions = actions
        self.uses: list[SourceUse] = []
        self.wheel_uses: tuple[WheelUse, ...] = ()
        self.own = tuple(sorted(set(question.files) - set(select(question.files, _NOT_PACKED))))
        base = question.manifest
        self.own_model = base.model is None or manifest.model is None or base.model.source != manifest.model.source
        self.own_docs = base.docs != manifest.docs

    def _add(self, params: Params, inputs: Mapping[str, Input], *, part: str = "", per_target: bool = True) -> str:
        name = task_name(params.step, self.manifest.name, part=part, target=self.target if per_target else "")
        action = Action(name, params, inputs)
        if self.actions.setdefault(name, action) != action:  # an override made it differ after all
            return self._add(params, inputs, part=part, per_target=True)
        return name

    def _fail(self, message: str, *key: str | int, hint: str = "") -> PlanError:
        return PlanError(message, place=self.question.where(key), hint=hint)

    # --- sources

    def _locked(self, source: str) -> LockedSource:
        return self.question.lock.sources[source]

    def _fetch(self, source: str, role: Role, place: str = "", *, part: str = "", per_target: bool = False) -> str:
        """``place`` is where in the box it comes to lie, for the records; the caller puts it there."""
        locked = self._locked(source)
        self.uses.append(source_use(role, locked, place, self.manifest.model))
        inputs: dict[str, Input] = {}
        if locked.is_file:
            inputs["file"] = SourceFile(str(PurePosixPath(self.question.folder, source.removeprefix("file:"))))
        return self._add(locked.params(), inputs, part=part, per_target=per_target)

    # --- the model

    def _model(self, model: Model) -> tuple[Output, str, str]:
        """Where the model comes out, its path in the box, and its quantisation as a person reads it."""
        locked = self._locked(model.source)
        if len(locked.files) != 1:
            raise self._fail(
                f"the source gives {len(locked.files)} files, and a model is one file",
                "model",
                "source",
                hint="name the file after '#'",
            )
        file_name, digest = next(iter(locked.files.items()))
        kind = model.format or file_name.rpartition(".")[2].lower()
        if kind not in ("gguf", "onnx"):
            raise self._fail(
                f"cannot tell the format of {file_name!r}", "model", hint='add format = "gguf" or format = "onnx"'
            )
        if model.sha256 and model.sha256 != digest:
            raise self._fail(
                f"the manifest pins sha256 {model.sha256}, but flatpack.lock resolved the source to {digest}",
                "model",
                "sha256",
                hint="one of the two is wrong: check where the model comes from, then run: flatpack lock",
            )
        verified = self._verify(model, kind, PurePosixPath(file_name).name, digest)
        quant = self._quant(model, kind, locked)
        stem = PurePosixPath(file_name).name
        if quant == "keep":
            current = str(locked.facts.get("quantisation", "")) or "as it is"
            return verified, f"{_MODEL_FOLDER}/{stem}", current
        params = ConvertParams(quant) if quant in FLOATS else CompressParams(quant)
        compressed = self._add(params, {"model": verified})
        return Output(compressed, "model.gguf"), f"{_MODEL_FOLDER}/{self.manifest.name}-{quant}.gguf", quant

    def _verify(self, model: Model, kind: str, file_name: str, digest: str) -> Output:
        fetched = self._fetch(model.source, "model", per_target=self.own_model)
        inputs: dict[str, Input] = {"file": Output(fetched, file_name)}
        keys: tuple[str, ...] = ()
        if model.signature:
            signature = self._fetch(model.signature, "signature", part="signature", per_target=self.own_model)
            member = next(iter(self._locked(model.signature).files))
            inputs["signature"] = Output(signature, member)
            keys = tuple(self.question.read_text(path) for path in model.public_keys) or self.question.trusted_keys
            if not keys:
                raise self._fail(
                    "the model has a signature, but no key is trusted to have made it",
                    "model",
                    "signature",
                    hint='name one: public_keys = ["keys/vendor.pub.pem"], or trusted_keys in pyproject.toml',
                )
        params = VerifyParams(file_name, digest, kind, keys, model.signature_hash)
        return Output(self._add(params, inputs, per_target=self.own_model), file_name)

    def _quant(self, model: Model, kind: str, locked: LockedSource) -> str:
        if kind == "onnx":
            if model.quant not in ("auto", "keep"):
                raise self._fail(
                    f"an ONNX model cannot be quantised to {model.quant} yet",
                    "model",
                    "quant",
                    hint='use quant = "keep"',
                )
            return "keep"
        if model.quant in ("int8", "int4"):
            raise self._fail(
                f"{model.quant} is for ONNX models",
                "model",
                "quant",
                hint="for a GGUF use Q8_0, Q4_K_M or another of its types",
            )
        context = model.context or DEFAULT_CONTEXT
        chosen: str | None = model.quant
        if model.quant == "auto":
            memory = self.profile.model_memory_mb * 1_000_000
            chosen = choose(locked.facts, self.profile.gguf_quants, memory, context)
            if chosen is None:
                raise self._fail(
                    f"no quantisation of this model with a context of {context} fits the "
                    f"{self.profile.model_memory_mb} MB that {self.target} has for it",
                    "model",
                    "context",
                    hint="take a smaller model, a shorter context, or leave this target out",
                )
        return "keep" if chosen == locked.facts.get("quantisation") else str(chosen)

    # --- everything else

    def _documents(self) -> tuple[str, ...]:
        docs = self.manifest.docs
        if docs is None or not docs.files:
            return ()
        for index, pattern in enumerate(docs.files):
            if not select(self.own, (pattern,)):
                raise self._fail(
                    f"{pattern!r} matches no file in the flatpack's folder",
                    "docs",
                    "files",
                    index,
                    hint="paths are relative to the folder of flatpack.toml; '**/' matches any folders",
                )
        return select(self.own, docs.files)

    def _index(self, documents: SourceTree) -> tuple[str, str]:
        docs = self.manifest.docs
        assert docs is not None
        embedder = self._fetch(EMBEDDER_SOURCE, "embedder", _EMBEDDER_FOLDER, part="embedder")
        params = IndexParams(embedder=docs.embedder, chunk_sentences=docs.chunk_sentences)
        index = self._add(params, {"docs": documents, "embedder": Output(embedder)}, per_target=self.own_docs)
        return index, embedder

    def _device(self) -> str:
        profile = self.profile
        params = DeviceParams(
            flatpack=self.manifest.name,
            device=profile.device,
            architecture=profile.architecture,
            threads=profile.threads,
            memory_mb=profile.model_memory_mb,
            service_manager=profile.service_manager,
            python=self.manifest.environment.python_version or profile.python,
        )
        return self._add(params, {})

    def _build_steps(self) -> Mapping[str, str]:
        """Declared build steps: their names -> their actions' names."""
        steps = self.manifest.build
        needs = self.manifest.build_dependencies()
        names = {}
        for name, step in steps.items():
            environment = dict(step.environment)
            if step.per_target:
                environment |= {
                    "FLATPACK_TARGET": self.target,
                    "FLATPACK_ARCHITECTURE": self.profile.architecture,
                    "FLATPACK_DEVICE": self.profile.device,
                }
            inputs: dict[str, Input] = {f"from {maker}": Output(self._step_name(maker)) for maker in needs[name]}
            own: set[str] = set()
            for index, pattern in enumerate(step.inputs):
                found = select(self.own, (pattern,))
                made = any(takes(pattern, output) for maker in needs[name] for output in steps[maker].outputs)
                if not found and not made:
                    raise self._fail(
                        f"{pattern!r} is neither a file of the flatpack nor an output of another build step",
                        "build",
                        name,
                        "inputs",
                        index,
                        hint="paths are relative to the folder of flatpack.toml",
                    )
                own.update(found)
            inputs["files"] = SourceTree(self.question.folder, tuple(sorted(own)))
            params = RunParams(
                name,
                step.command,
                step.outputs,
                environment,
                cores=step.cores or 0,
                memory_mb=step.memory_mb or 0,
                timeout_seconds=step.timeout_seconds or 0,
            )
            names[name] = self._add(params, inputs, part=name, per_target=step.per_target)
        return names

    def _step_name(self, name: str) -> str:
        per_target = self.manifest.build[name].per_target
        return task_name("run", self.manifest.name, part=name, target=self.target if per_target else "")

    def _place(self, path: str, *key: str | int) -> str:
        placed = below_folder(path)
        if placed is None:
            raise self._fail(
                f"{path!r} is outside the flatpack's folder",
                *key,
                hint="use a relative path, or one below /home/content/",
            )
        return placed

    def _assemble(self, documents: tuple[str, ...]) -> str:
        manifest = self.manifest
        inputs: dict[str, Input] = {}
        places: dict[str, str] = {}
        for index, item in enumerate(manifest.git):
            source = git_source(item.from_source, item.branch)
            place = self._place(item.to_destination, "git", index, "to_destination")
            inputs[f"git {index}"] = Output(self._fetch(source, "git", place, part=f"git-{index}"))
            places[f"git {index}"] = place
        added: tuple[tuple[Literal["file", "dataset"], tuple[File | Dataset, ...]], ...] = (
            ("file", manifest.file),
            ("dataset", manifest.dataset),
        )
        for table, items in added:
            for index, entry in enumerate(items):
                name = f"{table} {index}"
                places[name] = self._place(entry.to_destination, table, index, "to_destination")
                if is_remote(entry.from_source):
                    fetched = self._fetch(entry.from_source, table, places[name], part=f"{table}-{index}")
                    member = next(iter(self._locked(entry.from_source).files))
                    inputs[name] = Output(fetched, member)
                else:
                    path = self._place(entry.from_source, table, index, "from_source")
                    if path not in self.question.files:
                        raise self._fail(
                            f"{entry.from_source!r} is not in the flatpack's folder", table, index, "from_source"
                        )
                    inputs[name] = SourceFile(str(PurePosixPath(self.question.folder, path)))
        for step, action in self._build_steps().items():
            inputs[f"build {step}"] = Output(action)
            places[f"build {step}"] = ""
        wheels = self._wheels()
        if wheels:
            inputs["wheels"] = Output(wheels)
            places["wheels"] = _WHEELS_FOLDER
        inputs["own"] = SourceTree(
            self.question.folder, tuple(path for path in self.own if path not in documents and path != "device.sh")
        )
        directories = tuple(
            sorted({self._place(path, "directories", key) for key, path in manifest.directories.items()} - {""})
        )
        params = AssembleParams(manifest.name, manifest.name, manifest.description, places, directories)
        return self._add(params, inputs)

    def _wheels(self) -> str | None:
        need = wheels_need(self.manifest, self.profile)
        if need is None:
            return None
        locked = self.question.lock.wheels_for(need.platform, need.python, need.requirements)
        assert locked is not None, "the lock was checked against all needs"
        self.wheel_uses = wheel_uses(locked)
        return self._add(locked.params(), {}, part="wheels")

    def _bill(self, inputs: Mapping[str, Input], quant: str) -> Materials:
        model = self.manifest.model
        return Materials(
            builder=__version__,
            license=self.manifest.license,
            description=self.manifest.description,
            model=model_use(model, self._locked(model.source), quant) if model else None,
            sources=tuple(sorted(self.uses, key=lambda use: (use.role, use.place, use.source))),
            wheels=self.wheel_uses,
            steps=steps_behind(inputs, self.actions),
        )

    def box(self) -> BoxPlan:
        """Add all actions of this target and say what box comes out."""
        manifest = self.manifest
        inputs: dict[str, Input] = {}
        places: dict[str, str] = {}
        resolved = _without_limits(manifest.resolved())
        quant = ""
        if manifest.model:
            inputs["model"], places["model"], quant = self._model(manifest.model)
            # In the box the model lies beside its manifest, ready: the box's manifest says so and is valid itself.
            model = {"source": f"file:{places['model']}", "quant": "keep"}
            if manifest.model.license:
                model["license"] = manifest.model.license
            if manifest.model.context:
                model["context"] = manifest.model.context  # type: ignore[assignment]
            resolved["model"] = model
        documents = self._documents()
        if documents:
            tree = SourceTree(self.question.folder, documents)
            index, embedder = self._index(tree)
            inputs |= {"documents": tree, "index": Output(index), "embedder": Output(embedder)}
            places |= {"documents": "", "index": _INDEX_FOLDER, "embedder": _EMBEDDER_FOLDER}
        if "device.sh" in self.own:  # the flatpack's own wins
            inputs["device"] = SourceFile(str(PurePosixPath(self.question.folder, "device.sh")))
        else:
            inputs["device"] = Output(self._device(), "device.sh")
        places["device"] = "device.sh"
        inputs["assembled"] = Output(self._assemble(documents))
        places["assembled"] = ""
        params = PackParams(
            flatpack=manifest.name,
            flatpack_version=manifest.version,
            target=self.target,
            places=places,
            manifest=canonical_json(resolved).decode(),
            materials=self._bill(inputs, quant).encode(),
        )
        pack = self._add(params, inputs)
        return BoxPlan(self.target, pack, f"{manifest.name}-{manifest.version}-{self.target}.fpk", quant)
