"""Where a command is called: the project, if there is one, and whom to trust there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flatpack_build.errors import UsageError
from flatpack_build.project import Project, find_project

if TYPE_CHECKING:
    from flatpack_build.box.trust import TrustPolicy


keys_option = click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PUBLIC.pem",
    help="Accept this public key and no other. May be given more than once.",
)
"""Gives a command ``keys``, for ``policy_here``."""


def current_project() -> Project | None:
    """The project that the current folder lies in. Raises ``ManifestError`` for settings that are not valid."""
    try:
        return find_project(Path.cwd())
    except UsageError:
        return None


def policy_here(keys: Sequence[Path] = ()) -> TrustPolicy:
    """Trust in exactly these keys; without any, what the user and the project trust."""
    # What judges boxes brings cryptography and zstandard: not for --help.
    from flatpack_build.box.keys import load_public_key
    from flatpack_build.box.policy import load_policy, policy_of_keys

    if keys:
        return policy_of_keys([load_public_key(key) for key in keys])
    return load_policy(current_project(), os.environ)
