"""The graph of a flatpack: what goes into the box of each target, and the actions that make it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import PurePosixPath
from typing import Literal

from flatpack_build import __version__
from flatpack_build.action import Action, Input, Output, SourceFile, SourceTree
from flatpack_build.bill import model_use, steps_behind, wheel_uses
from flatpack_build.digest import Json, canonical_json
from flatpack_build.graph import BoxPlan, Graph, in_order
from flatpack_build.manifest.build_steps import takes
from flatpack_build.manifest.model import Manifest
from flatpack_build.manifest.tables import BuildStep, Dataset, File
from flatpack_build.materials import Materials, WheelUse
from flatpack_build.needs import EMBEDDER_SOURCE, git_source, is_remote, wheels_need
from flatpack_build.params import AssembleParams, DeviceParams, IndexParams, PackParams, RunParams
from flatpack_build.patterns import select
from flatpack_build.plan.draft import Draft, Question
from flatpack_build.plan.model import plan_model

# In old flatpacks this prefix means "below the flatpack's own folder".
_OLD_ROOT = "/home/content/"
_INDEX_FOLDER = "vector"
_EMBEDDER_FOLDER = "vector/embedder"
_WHEELS_FOLDER = "wheels"
# What a flatpack's folder holds for the builder only.
_NOT_PACKED = ("flatpack.toml", "flatpack.lock", "**/*.fpk", "**/*.pyc")


def plan(question: Question) -> Graph:
    """The graph for all targets in ``question.profiles``. Raises ``PlanError`` with a place."""
    actions: dict[str, Action] = {}
    boxes = []
    manifests = {target: question.manifest.for_target(target) for target in question.profiles}
    models = frozenset(_own_models(question, manifests.values()))
    for target, profile in question.profiles.items():
        draft = Draft(question, manifests[target], target, profile, actions)
        boxes.append(_TargetPlan(draft, models).box())
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


def _own_models(question: Question, manifests: Iterable[Manifest]) -> Iterator[str]:
    """The models, and their signatures, that lie in the flatpack's own folder: they go into a box as its model, ready for
    its target, and not once more as they are."""
    for manifest in manifests:
        sources = (manifest.model.source, manifest.model.signature) if manifest.model else ()
        for source in sources:
            if source and question.lock.sources[source].is_file:
                yield str(PurePosixPath(source.removeprefix("file:")))


def _below_folder(path: str) -> str | None:
    """A path of the manifest as one relative to the flatpack's folder; ``None`` when it leads elsewhere."""
    relative = path.removeprefix(_OLD_ROOT).rstrip("/") or "."
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts:
        return None
    return "" if str(pure) == "." else str(pure)


class _TargetPlan:
    """What goes into one target's box, and how it gets there. ``models`` are own files that are models of any target."""

    def __init__(self, draft: Draft, models: frozenset[str]) -> None:
        self.draft = draft
        self.models = models
        self.manifest = draft.manifest
        self.folder = draft.question.folder
        files = draft.question.files
        self.own = tuple(sorted(set(files) - set(select(files, _NOT_PACKED))))
        self.own_docs = draft.question.manifest.docs != self.manifest.docs
        self.wheel_uses: tuple[WheelUse, ...] = ()

    def _documents(self) -> tuple[str, ...]:
        docs = self.manifest.docs
        if docs is None or not docs.files:
            return ()
        for index, pattern in enumerate(docs.files):
            if not select(self.own, (pattern,)):
                raise self.draft.error(
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
        embedder = self.draft.fetch(EMBEDDER_SOURCE, "embedder", _EMBEDDER_FOLDER, part="embedder")
        params = IndexParams(embedder=docs.embedder, chunk_sentences=docs.chunk_sentences)
        index = self.draft.add(params, {"docs": documents, "embedder": Output(embedder)}, per_target=self.own_docs)
        return index, embedder

    def _device(self) -> str:
        profile = self.draft.profile
        params = DeviceParams(
            flatpack=self.manifest.name,
            device=profile.device,
            architecture=profile.architecture,
            threads=profile.threads,
            memory_mb=profile.model_memory_mb,
            service_manager=profile.service_manager,
            python=self.manifest.environment.python_version or profile.python,
        )
        return self.draft.add(params, {})

    def _build_steps(self) -> Mapping[str, str]:
        """Declared build steps: their names -> their actions' names."""
        steps = self.manifest.build
        needs = self.manifest.build_dependencies()
        names: dict[str, str] = {}
        # Makers first: an override of theirs gives their actions names of this target's own, and what takes from them follows.
        for name in TopologicalSorter(needs).static_order():
            step = steps[name]
            environment = dict(step.environment)
            if step.per_target:
                environment |= {
                    "FLATPACK_TARGET": self.draft.target,
                    "FLATPACK_ARCHITECTURE": self.draft.profile.architecture,
                    "FLATPACK_DEVICE": self.draft.profile.device,
                }
            inputs: dict[str, Input] = {f"from {maker}": Output(names[maker]) for maker in needs[name]}
            own: set[str] = set()
            for index, pattern in enumerate(step.inputs):
                found = select(self.own, (pattern,))
                made = any(takes(pattern, output) for maker in needs[name] for output in steps[maker].outputs)
                if not found and not made:
                    raise self.draft.error(
                        f"{pattern!r} is neither a file of the flatpack nor an output of another build step",
                        "build",
                        name,
                        "inputs",
                        index,
                        hint="paths are relative to the folder of flatpack.toml",
                    )
                own.update(found)
            inputs["files"] = SourceTree(self.folder, tuple(sorted(own)))
            params = RunParams(
                name,
                step.command,
                step.outputs,
                environment,
                cores=step.cores or 0,
                memory_mb=step.memory_mb or 0,
                timeout_seconds=step.timeout_seconds or 0,
            )
            names[name] = self.draft.add(params, inputs, part=name, per_target=step.per_target)
        return names

    def _place(self, path: str, *key: str | int) -> str:
        placed = _below_folder(path)
        if placed is None:
            raise self.draft.error(
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
            inputs[f"git {index}"] = Output(self.draft.fetch(source, "git", place, part=f"git-{index}"))
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
                    fetched = self.draft.fetch(entry.from_source, table, places[name], part=f"{table}-{index}")
                    member = self.draft.only_file(entry.from_source, table, table, index, "from_source")
                    inputs[name] = Output(fetched, member)
                else:
                    path = self._place(entry.from_source, table, index, "from_source")
                    if path not in self.draft.question.files:
                        raise self.draft.error(
                            f"{entry.from_source!r} is not in the flatpack's folder", table, index, "from_source"
                        )
                    inputs[name] = SourceFile(str(PurePosixPath(self.folder, path)))
        for step, action in self._build_steps().items():
            inputs[f"build {step}"] = Output(action)
            places[f"build {step}"] = ""
        wheels = self._wheels()
        if wheels:
            inputs["wheels"] = Output(wheels)
            places["wheels"] = _WHEELS_FOLDER
        elsewhere = {*documents, *self.models, "device.sh"}
        inputs["own"] = SourceTree(self.folder, tuple(path for path in self.own if path not in elsewhere))
        directories = tuple(
            sorted({self._place(path, "directories", key) for key, path in manifest.directories.items()} - {""})
        )
        params = AssembleParams(manifest.name, manifest.name, manifest.description, places, directories)
        return self.draft.add(params, inputs)

    def _wheels(self) -> str | None:
        need = wheels_need(self.manifest, self.draft.profile)
        if need is None:
            return None
        locked = self.draft.question.lock.wheels_for(need.platform, need.python, need.requirements)
        assert locked is not None, "the lock was checked against all needs"
        self.wheel_uses = wheel_uses(locked)
        return self.draft.add(locked.params(), {}, part="wheels")

    def _bill(self, inputs: Mapping[str, Input], quant: str) -> Materials:
        model = self.manifest.model
        return Materials(
            builder=__version__,
            license=self.manifest.license,
            description=self.manifest.description,
            model=model_use(model, self.draft.locked(model.source), quant) if model else None,
            sources=tuple(sorted(self.draft.uses, key=lambda use: (use.role, use.place, use.source))),
            wheels=self.wheel_uses,
            steps=steps_behind(inputs, self.draft.actions),
        )

    def box(self) -> BoxPlan:
        """Add all actions of this target and say what box comes out."""
        manifest = self.manifest
        inputs: dict[str, Input] = {}
        places: dict[str, str] = {}
        resolved = _without_limits(manifest.resolved())
        quant = ""
        if manifest.model:
            model = plan_model(self.draft, manifest.model)
            inputs["model"], places["model"], quant = model.output, model.place, model.quant
            resolved["model"] = model.described(manifest.model)
        documents = self._documents()
        if documents:
            tree = SourceTree(self.folder, documents)
            index, embedder = self._index(tree)
            inputs |= {"documents": tree, "index": Output(index), "embedder": Output(embedder)}
            places |= {"documents": "", "index": _INDEX_FOLDER, "embedder": _EMBEDDER_FOLDER}
        if "device.sh" in self.own:  # the flatpack's own wins
            inputs["device"] = SourceFile(str(PurePosixPath(self.folder, "device.sh")))
        else:
            inputs["device"] = Output(self._device(), "device.sh")
        places["device"] = "device.sh"
        inputs["assembled"] = Output(self._assemble(documents))
        places["assembled"] = ""
        params = PackParams(
            flatpack=manifest.name,
            flatpack_version=manifest.version,
            target=self.draft.target,
            places=places,
            manifest=canonical_json(resolved).decode(),
            materials=self._bill(inputs, quant).encode(),
        )
        pack = self.draft.add(params, inputs)
        return BoxPlan(self.draft.target, pack, f"{manifest.name}-{manifest.version}-{self.draft.target}.fpk", quant)
