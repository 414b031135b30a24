"""Who may sign which flatpacks, and the verdict on a box. Knows no settings, no folders of keys and no terminal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Literal

from flatpack_build.box.checked import SignedPayload
from flatpack_build.box.container import UnknownSignerError, VerifiedBox, signature_fault, verify_open_box
from flatpack_build.box.contents import manifest_in, open_box
from flatpack_build.box.keys import PublicKey, load_public_key
from flatpack_build.box.payload import PayloadManifest
from flatpack_build.box.reading import top_folder
from flatpack_build.errors import BoxError, KeyFileError
from flatpack_build.patterns import matches

EVERYTHING = ("*",)


class TrustMode(StrEnum):
    """What becomes of a box that no trusted key signed: refused, accepted with a warning, or nobody looks."""

    ENFORCE = "enforce"
    WARN = "warn"
    OFF = "off"


Scope = Literal["user", "project", "settings", "signing key", "option"]


@dataclass(frozen=True)
class TrustedKey:
    """A key and the flatpacks (patterns of names) that it may sign. ``scope`` says where that was decided."""

    name: str
    key: PublicKey
    flatpacks: tuple[str, ...]
    scope: Scope

    def permits(self, flatpack: str | None) -> bool:
        """Whether it may sign that flatpack; one that does not tell its name needs a key for all of them."""
        if flatpack is None:
            return "*" in self.flatpacks
        return any(matches(flatpack, pattern) for pattern in self.flatpacks)

    @property
    def described(self) -> str:
        """Which key it is, for a sentence about a box that it signed."""
        if self.scope == "signing key":
            return "this project's signing key"
        return f"{self.name} ({self.scope})"

    def __str__(self) -> str:
        allowed = "" if "*" in self.flatpacks else f" for {', '.join(self.flatpacks)}"
        return f"{self.name} {self.key.key_id[:12]}{allowed}"


@dataclass(frozen=True)
class TrustPolicy:
    """``others`` are files of public keys that lie at hand and are not trusted: they only help to say who signed."""

    mode: TrustMode
    keys: tuple[TrustedKey, ...]
    others: tuple[Path, ...] = ()

    @property
    def public_keys(self) -> list[PublicKey]:
        """Each key once."""
        return list({trusted.key.key_id: trusted.key for trusted in self.keys}.values())


@dataclass(frozen=True)
class Judgement:
    """The verdict on a box that was not refused.

    ``verified`` is ``None`` where its signature is of no known key, or was not looked at; ``trusted`` is the decision
    that it rests on. Without one, ``warning`` says why the box is let through all the same.
    """

    flatpack: str | None
    manifest: PayloadManifest | None
    """What the box says is in it; ``None`` for a box of the original Flatpack."""
    verified: VerifiedBox | None
    trusted: TrustedKey | None
    warning: str = ""
    looked_at: bool = True
    """Whether the signature was looked at."""


def judge_box(box: Path, policy: TrustPolicy) -> Judgement:
    """Whether ``box`` may be used. Raises ``BoxError`` for one that is damaged, and as ``policy`` says."""
    with open_box(box) as file:
        return judge_open_box(file, policy)


def judge_open_box(file: BinaryIO, policy: TrustPolicy) -> Judgement:
    """``judge_box`` for a box that is open: what is done with ``file`` next is done with what was judged.

    A box that a trusted key signed and that was changed since is refused in every mode but ``OFF``; so is what has no
    signature at all.
    """
    if policy.mode is TrustMode.OFF:
        return _unvouched(file, None, "trust is off: nobody checked who signed this box", looked_at=False)
    try:
        verified = _verify(file, policy)
        flatpack = verified.manifest.flatpack if verified.manifest else _original_name(file, verified)
        for trusted in policy.keys:
            if trusted.key.key_id == verified.key_id and trusted.permits(flatpack):
                return Judgement(flatpack, verified.manifest, verified, trusted)
        raise _not_permitted(flatpack, verified, policy)
    except _DistrustError as error:
        if policy.mode is TrustMode.WARN:
            return _unvouched(file, error.verified, error.message)
        raise BoxError(error.message, hint=error.hint) from None


class _DistrustError(BoxError):
    """A box with a signature that nobody at hand vouches for. ``verified``: the signature itself is good."""

    def __init__(self, message: str, *, hint: str, verified: VerifiedBox | None = None) -> None:
        super().__init__(message, hint=hint)
        self.verified = verified


def _verify(file: BinaryIO, policy: TrustPolicy) -> VerifiedBox:
    keys = policy.public_keys
    try:
        if not keys:
            raise signature_fault(file)
        return verify_open_box(file, keys)
    except UnknownSignerError as error:
        trusted = ", ".join(map(str, policy.keys)) or "none"
        other = _signed_by(file, policy)
        if other is None:
            said = error.message.split("; keys tried")[0]
            raise _DistrustError(
                f"{said}; trusted keys: {trusted}",
                hint="'flatpack trust add KEY.pub.pem' trusts the key of whoever made it, if you know them",
            ) from None
        signer = "a development key" if other.development else "a key"
        raise _DistrustError(
            f"the box is signed by {signer} that is not trusted here: {other}; trusted keys: {trusted}",
            hint=f"to trust it: flatpack trust add {other.source}" + " --development" * other.development,
        ) from None


def _signed_by(file: BinaryIO, policy: TrustPolicy) -> PublicKey | None:
    """Which of the keys that lie at hand, trusted by nobody, made the signature."""
    for path in policy.others:
        try:
            key = load_public_key(path)
            verify_open_box(file, [key])
        except (KeyFileError, BoxError):
            continue
        return key
    return None


def _not_permitted(flatpack: str | None, verified: VerifiedBox, policy: TrustPolicy) -> _DistrustError:
    decisions = [trusted for trusted in policy.keys if trusted.key.key_id == verified.key_id]
    allowed = ", ".join(sorted({pattern for trusted in decisions for pattern in trusted.flatpacks}))
    what = f"the flatpack {flatpack!r}" if flatpack is not None else "a box that does not say which flatpack it is"
    pattern = flatpack or "'*'"
    others = ", ".join(str(trusted) for trusted in policy.keys if trusted.permits(flatpack)) or "none"
    return _DistrustError(
        f"the box is signed by {decisions[0].name} {verified.key_id[:12]}, which may not sign {what}, "
        f"but only: {allowed}; trusted for it: {others}",
        hint=f"to allow it: flatpack trust add {decisions[0].key.source} --flatpack {pattern}",
        verified=verified,
    )


def _original_name(file: BinaryIO, verified: VerifiedBox) -> str | None:
    payload = SignedPayload(file, verified)
    name = top_folder(file, payload)
    payload.finish()
    return name


def _unvouched(file: BinaryIO, verified: VerifiedBox | None, warning: str, *, looked_at: bool = True) -> Judgement:
    manifest = verified.manifest if verified else manifest_in(file)
    flatpack = manifest.flatpack if manifest else top_folder(file)
    return Judgement(flatpack, manifest, verified, None, warning, looked_at)
