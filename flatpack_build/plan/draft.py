"""What a plan is made from, and the actions of one target while they are added up. Knows no part of a flatpack by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from flatpack_build.action import Action, Input, SourceFile, task_name
from flatpack_build.bill import source_use
from flatpack_build.errors import Place, PlanError
from flatpack_build.manifest.lock import Lock, LockedSource
from flatpack_build.manifest.model import Manifest
from flatpack_build.materials import Role, SourceUse
from flatpack_build.params import Params
from flatpack_build.targets import Profile


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


class Draft:
    """The actions of one target, added to those of the others: an action that is the same for all is there once.

    ``manifest`` is the one for this target; ``actions`` are those of all targets so far.
    """

    def __init__(
        self, question: Question, manifest: Manifest, target: str, profile: Profile, actions: dict[str, Action]
    ) -> None:
        self.question = question
        self.manifest = manifest
        self.target = target
        self.profile = profile
        self.actions = actions
        self.uses: list[SourceUse] = []
        """The sources that were fetched for this target's box."""

    def add(self, params: Params, inputs: Mapping[str, Input], *, part: str = "", per_target: bool = True) -> str:
        """The name of the action, which is there from now on."""
        name = task_name(params.step, self.manifest.name, part=part, target=self.target if per_target else "")
        action = Action(name, params, inputs)
        if self.actions.setdefault(name, action) != action:  # an override made it differ after all
            return self.add(params, inputs, part=part, per_target=True)
        return name

    def fetch(self, source: str, role: Role, place: str = "", *, part: str = "", per_target: bool = False) -> str:
        """``place`` is where in the box it comes to lie, for the records; the caller puts it there."""
        locked = self.locked(source)
        self.uses.append(source_use(role, locked, place, self.manifest.model))
        inputs: dict[str, Input] = {}
        if locked.is_file:
            inputs["file"] = SourceFile(str(PurePosixPath(self.question.folder, source.removeprefix("file:"))))
        return self.add(locked.params(), inputs, part=part, per_target=per_target)

    def locked(self, source: str) -> LockedSource:
        return self.question.lock.sources[source]

    def only_file(self, source: str, what: str, *key: str | int) -> str:
        """The path of the one file that a source gives, to be a ``what``. Raises ``PlanError`` at ``key``."""
        files = self.locked(source).files
        if len(files) != 1:
            given = f"{len(files)} files" if files else "a whole folder"
            raise self.error(
                f"the source gives {given}, and a {what} is one file",
                *key,
                hint="name the file after '#'" if files else "take a source of one file; [[git]] brings a whole folder",
            )
        return next(iter(files))

    def error(self, message: str, *key: str | int, hint: str = "") -> PlanError:
        """For whoever finds that what stands at ``key`` in the manifest cannot be built."""
        return PlanError(message, place=self.question.where(key), hint=hint)
