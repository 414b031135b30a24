"""Where the files that travel with the program are: profiles, schemas, the template. Reads none of them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from flatpack_build.errors import FlatpackError

_PACKAGE = Path(__file__).resolve().parent
_IN_CHECKOUT = {"targets": "targets", "schemas": "schemas", "template": "warehouse/template"}


@functools.cache
def builtin_folder(kind: Literal["targets", "schemas", "template"]) -> Path:
    """The folder of ``kind``: inside the installed package, or in the checkout that the package is part of.

    Raises ``FlatpackError`` when there is neither.
    """
    for folder in (_PACKAGE / "data" / kind, _PACKAGE.parent / _IN_CHECKOUT[kind]):
        if folder.is_dir():
            return folder
    raise FlatpackError(
        f"this installation of flatpack-build lacks its {kind} folder", hint="install flatpack-build again"
    )
