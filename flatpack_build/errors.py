"""Every error a user can cause, from one root. Knows nothing of the terminal: it carries text, the CLI prints it."""

from __future__ import annotations

from dataclasses import dataclass

from flatpack_build.plain import printable


@dataclass(frozen=True)
class Place:
    """Where something is wrong in a text file. Lines and columns count from 1; 0 means "the file as a whole"."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


class FlatpackError(Exception):
    """The root. ``message`` says what is wrong, ``place`` where, ``hint`` what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, place: Place | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # An exception with keyword-only arguments does not survive pickling without this.
        return _rebuild, (type(self), self.message, self.place, self.hint)

    def shown(self, folder: str) -> str:
        """The text with paths below ``folder`` relative to it, as someone who works there wants to read them.

        It quotes servers, archives and files, so nothing in it is left that a terminal would obey.
        """
        return printable(str(self).replace(folder.rstrip("/") + "/", ""))

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text


def _rebuild(kind: type[FlatpackError], message: str, place: Place | None, hint: str) -> FlatpackError:
    return kind(message, place=place, hint=hint)


class UsageError(FlatpackError):
    """A command line or a setting that cannot be obeyed."""

    exit_code = 2


class ManifestError(FlatpackError):
    """A ``flatpack.toml`` (or profile, or settings file) that is not valid."""

    exit_code = 2


class LockError(FlatpackError):
    """A ``flatpack.lock`` that is missing, damaged or does not match its manifest."""


class PlanError(FlatpackError):
    """A valid manifest that cannot be turned into a graph: a cycle, an unknown target, a model that fits no board."""


class SourceError(FlatpackError):
    """Bytes that could not be had: no such file, no such release, no network, a download cut short."""


class VerificationError(FlatpackError):
    """Bytes that are not what was promised: wrong digest, wrong signature, wrong format."""


class StepError(FlatpackError):
    """A step that ran and failed."""


class CrashError(StepError):
    """A step whose process died: by a signal, or without giving a result."""


class DamagedInputError(FlatpackError):
    """An input that is no longer what its digest says: changed under way, or by the disk."""


class StoreError(FlatpackError):
    """The store cannot be read or written, or what it holds is damaged."""


class BoxError(FlatpackError):
    """A box that cannot be made, or cannot be trusted."""


class KeyFileError(FlatpackError):
    """A signing or verifying key that is missing, malformed, or cannot be unlocked."""


ERROR_TYPES: dict[str, type[FlatpackError]] = {
    kind.__name__: kind
    for kind in (
        FlatpackError, UsageError, ManifestError, LockError, PlanError, SourceError, VerificationError,
        StepError, CrashError, DamagedInputError, StoreError, BoxError, KeyFileError,
    )
}  # fmt: skip
