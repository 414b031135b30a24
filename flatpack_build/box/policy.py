"""The trust policy that holds here: from the user's settings and keys, the project's, and the environment.

Judges no boxes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from flatpack_build.box.keys import PublicKey, load_public_key
from flatpack_build.box.trust import EVERYTHING, TrustedKey, TrustMode, TrustPolicy
from flatpack_build.box.trusted_keys import TrustFolder
from flatpack_build.errors import KeyFileError, UsageError
from flatpack_build.project import Project
from flatpack_build.user_config import read_user_config, user_folder

VARIABLE = "FLATPACK_TRUST"
PROJECT_FOLDER = Path("keys", "trusted")

_STRICTNESS = (TrustMode.OFF, TrustMode.WARN, TrustMode.ENFORCE)


def user_trust(environ: Mapping[str, str] = os.environ) -> TrustFolder:
    """The keys that this user trusts in every project."""
    return TrustFolder(user_folder(environ) / "trusted", "user")


def project_trust(project: Project) -> TrustFolder:
    """The keys that everybody who works in ``project`` trusts there."""
    return TrustFolder(project.root / PROJECT_FOLDER, "project")


def trust_mode(project: Project | None, environ: Mapping[str, str] = os.environ) -> TrustMode:
    """``FLATPACK_TRUST``; else what the project or the user has set, the stricter where both have; else ``ENFORCE``.

    A project cannot lower what its user has asked for. Raises ``UsageError`` and ``ManifestError``.
    """
    if named := environ.get(VARIABLE):
        try:
            return TrustMode(named)
        except ValueError:
            raise UsageError(f"{VARIABLE} is {named!r}", hint="enforce, warn or off") from None
    settings = (project.settings.trust if project else "", read_user_config(environ).trust)
    said = [TrustMode(text) for text in settings if text]
    return max(said, key=_STRICTNESS.index, default=TrustMode.ENFORCE)


def load_policy(project: Project | None, environ: Mapping[str, str] = os.environ) -> TrustPolicy:
    """The policy for somebody who works in ``project`` (``None``: in none). Raises as ``TrustFolder.keys`` does.

    In a project its own signing key is trusted, too, a development key not excepted; outside of it such a key is not.
    """
    mode = trust_mode(project, environ)
    trusted, others = user_trust(environ).keys()
    if project is not None:
        own, more = project_trust(project).keys()
        trusted += own
        others += more
        trusted += [_of_settings(path) for path in project.trusted_keys]
        if project.public_key.is_file():
            trusted.append(TrustedKey("(own)", load_public_key(project.public_key), EVERYTHING, "signing key"))
    ids = {each.key.key_id for each in trusted}
    at_hand = [Path(key.source) for key in others if key.key_id not in ids]
    if project is not None:
        at_hand += [path for path in sorted((project.root / "keys").glob("*.pub.pem")) if _is_other(path, ids)]
    return TrustPolicy(mode, tuple(trusted), tuple(at_hand))


def policy_of_keys(keys: Iterable[PublicKey]) -> TrustPolicy:
    """Exactly these keys, for everything, whatever is set."""
    return TrustPolicy(
        TrustMode.ENFORCE, tuple(TrustedKey(Path(key.source).name, key, EVERYTHING, "option") for key in keys)
    )


def _of_settings(path: Path) -> TrustedKey:
    return TrustedKey(
        path.name.removesuffix(".pem").removesuffix(".pub"), load_public_key(path), EVERYTHING, "settings"
    )


def _is_other(path: Path, ids: set[str]) -> bool:
    try:
        return load_public_key(path).key_id not in ids
    except KeyFileError:
        return False
