"""The user's own settings, which hold in every project: where they lie and what they say. Knows no project and no key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.errors import ManifestError
from flatpack_build.manifest.document import read_document
from flatpack_build.manifest.wording import describe, did_you_mean
from flatpack_build.project import TRUST_MODES

CONFIG_FILE = "config.toml"
VARIABLE = "FLATPACK_CONFIG"


@dataclass(frozen=True)
class UserConfig:
    """``config.toml`` of the user's folder."""

    folder: Path
    trust: str = ""
    """As the project's setting of that name; empty: not said."""


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the user's settings and trusted keys; ``FLATPACK_CONFIG`` wins. It need not exist."""
    if named := environ.get(VARIABLE):
        return Path(os.path.abspath(named))
    import platformdirs  # only where boxes are judged

    return Path(platformdirs.user_config_dir("flatpack-build"))


def read_user_config(environ: Mapping[str, str] = os.environ) -> UserConfig:
    """Raises ``ManifestError`` for a file that is not valid; none at all says nothing."""
    folder = user_folder(environ)
    file = folder / CONFIG_FILE
    if not file.exists():
        return UserConfig(folder)
    document = read_document(file)
    for key, value in document.data.items():
        if key != "trust":
            raise ManifestError(
                f"unknown key {key!r}{did_you_mean(key, ['trust'])}",
                place=document.key_place([key]),
                hint="known settings: trust",
            )
        if value not in TRUST_MODES:
            raise ManifestError(
                f'expected "enforce", "warn" or "off", got {describe(value)}', place=document.value_place([key])
            )
    return UserConfig(folder, document.data.get("trust", ""))
