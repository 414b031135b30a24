"""Where the passphrase of a private key comes from: a file, a file descriptor, the environment, or a person.

Never an argument of a command: those stand in the process list for everyone to read. Knows no keys.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flatpack_build.errors import KeyFileError, Place

VARIABLE = "FLATPACK_PASSPHRASE"
FILE_VARIABLE = "FLATPACK_PASSPHRASE_FILE"
MAX_LENGTH = 1023
"""Bytes; OpenSSL takes no more."""

_SOURCES = f"set {VARIABLE} or {FILE_VARIABLE}, or use --passphrase-file or --passphrase-fd"


@dataclass(frozen=True)
class Passphrase:
    """One source of a passphrase. A file or descriptor that is given wins over the environment, which wins over
    asking; ``ask`` (prompt -> answer) is ``None`` where nobody can be asked."""

    file: Path | None = None
    descriptor: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ask: Callable[[str], str] | None = None

    def read(self, purpose: str, *, confirm: bool = False) -> bytes:
        """The passphrase ``purpose`` (a noun phrase for the prompt); ``confirm`` asks a person twice.

        Of a file, the first line counts. Raises ``KeyFileError`` when there is none, or it is empty.
        """
        if self.file is not None:
            try:
                with open(self.file, "rb") as stream:
                    return _checked(_first_line(stream.fileno()), f"the passphrase file {self.file}")
            except OSError as error:
                raise KeyFileError(
                    f"the passphrase file cannot be read: {error.strerror}", place=Place(str(self.file))
                ) from None
        if self.descriptor is not None:
            try:
                return _checked(_first_line(self.descriptor), f"file descriptor {self.descriptor}")
            except OSError as error:
                raise KeyFileError(
                    f"no passphrase can be read from file descriptor {self.descriptor}: {error.strerror}",
                    hint=f"the shell opens one with --passphrase-fd {self.descriptor} {self.descriptor}<FILE",
                ) from None
        if VARIABLE in self.environment:
            return _checked(os.fsencode(self.environment[VARIABLE]), f"the environment variable {VARIABLE}")
        if self.ask is None:
            raise KeyFileError(f"there is no passphrase for {purpose}, and nobody to ask", hint=_SOURCES)
        answer = _checked(self.ask(f"Passphrase for {purpose}: ").encode(), "the passphrase")
        if confirm and self.ask("The same again: ").encode() != answer:
            raise KeyFileError("the two passphrases differ", hint="try again")
        return answer


def passphrase_from(
    environment: Mapping[str, str], *, file: Path | None = None, descriptor: int | None = None
) -> Passphrase:
    """The source that a command's options or the environment name, or else this process's terminal.

    Raises ``KeyFileError`` where the options name two.
    """
    if file is not None and descriptor is not None:
        raise KeyFileError("a passphrase can come from a file or from a file descriptor, not from both")
    if file is None and descriptor is None and VARIABLE not in environment and environment.get(FILE_VARIABLE):
        file = Path(environment[FILE_VARIABLE])  # for builds, which have no options for it
    return Passphrase(file, descriptor, environment, terminal_prompt())


def terminal_prompt() -> Callable[[str], str] | None:
    """Ask on the terminal without showing what is typed; ``None`` when there is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():  # None: it was closed before this program began
        return None
    import getpass  # brings termios, which not every system has

    return getpass.getpass


def _first_line(descriptor: int) -> bytes:
    data = b""
    while b"\n" not in data and len(data) <= MAX_LENGTH + 2:
        more = os.read(descriptor, MAX_LENGTH + 2)
        if not more:
            break
        data += more
    return data.split(b"\n", 1)[0].removesuffix(b"\r")


def _checked(passphrase: bytes, origin: str) -> bytes:
    if not passphrase:
        raise KeyFileError(f"{origin} is empty", hint=_SOURCES)
    if len(passphrase) > MAX_LENGTH:
        raise KeyFileError(f"{origin} is longer than {MAX_LENGTH} bytes")
    return passphrase
