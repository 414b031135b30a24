"""Texts that somebody else wrote, made safe to show. Knows no terminal; every layer may use it."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"//[^/\s:]*:[^/\s]*@")


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: control characters, and those that turn the direction of writing."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


def without_passwords(text: str) -> str:
    """``text`` without the user and password in an address: it may end in the log of a CI that everybody can read."""
    return _PASSWORD.sub("//***@", text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()
