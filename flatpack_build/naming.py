"""What a person means who types a path where the name of a flatpack is expected: shells complete paths, not names.

Knows the project's folders; no graph, no task and no terminal.
"""

from __future__ import annotations

import os
from pathlib import Path

from flatpack_build.errors import UsageError
from flatpack_build.project import MANIFEST_FILE, Project


def flatpack_name(project: Project, text: str) -> str:
    """The flatpack whose folder or manifest ``text`` is a path to, relative to the current folder; else ``text``.

    Raises ``UsageError`` for another file: it is no flatpack, but one may ask what depends on it.
    """
    if os.sep not in text and text != MANIFEST_FILE and (project.warehouse / text / MANIFEST_FILE).is_file():
        return text
    path = Path(text)
    if not text or not path.exists():
        return text
    real = Path(os.path.realpath(path))
    if real.name == MANIFEST_FILE:
        real = real.parent
    if real.parent == Path(os.path.realpath(project.warehouse)) and (real / MANIFEST_FILE).is_file():
        return real.name
    if path.is_file():
        raise UsageError(f"{text} is a file, not a flatpack", hint=f"what depends on it: flatpack query uses {text}")
    return text
