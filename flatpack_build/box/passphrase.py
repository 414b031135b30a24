"""Where the passphrase of a private key comes from: a file, a file descriptor, the environment, or a person.

Never an argument of a command: those stand in the process list for everyone to read. Knows no keys.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from flatpack_build.errors import KeyFileError, Place
from flatpack_build.terminal import TERMINAL

VARIABLE = "FLATPACK_PASSPHRASE"
FILE_VARIABLE = "FLATPACK_PASSPHRASE_FILE"
_AGAIN = " (that one was wrong)"
MAX_LENGTH = 1023
"""Bytes; OpenSSL takes no more."""

_VARIABLES = f"set {VARIABLE} or {FILE_VARIABLE}"
_ATTEMPTS = 3

Key = TypeVar("Key")


class WrongPassphraseError(KeyFileError):
    """A key that this passphrase does not unlock."""


@dataclass(frozen=True)
class Passphrase:
    """One source of a passphrase. A file or descriptor that is given wins over the environment, which wins over
    asking; ``ask`` (prompt -> answer) is ``None`` where nobody can be asked."""

    file: Path | None = None
    descriptor: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ask: Callable[[str], str] | None = None
    options: bool = True
    """Whether whoever is told that there is none could have used the options for it."""

    def unlock(self, purpose: str, key_with: Callable[[bytes], Key]) -> Key:
        """What ``key_with`` makes of the passphrase; a person may try three times.

        Raises as ``read`` and ``key_with`` do, which raises ``WrongPassphraseError`` for a wrong one.
        """
        asked = self.file is None and self.descriptor is None and VARIABLE not in self.environment
        for _ in range(_ATTEMPTS - 1 if asked and self.ask else 0):
            try:
                return key_with(self.read(purpose))
            except WrongPassphraseError:
                purpose = purpose if purpose.endswith(_AGAIN) else purpose + _AGAIN
        return key_with(self.read(purpose))

    def read(self, purpose: str, *, confirm: bool = False) -> bytes:
        """The passphrase ``purpose`` (a noun phrase for the prompt); ``confirm`` asks a person twice.

        Of a file, the first line counts. Raises ``KeyFileError`` when there is none, or it is empty.
        """
        if self.file is not None:
            try:
                with open(self.file, "rb") as stream:
                    return self._checked(_first_line(stream.fileno()), f"the passphrase file {self.file}")
            except OSError as error:
                raise KeyFileError(
                    f"the passphrase file cannot be read: {error.strerror}", place=Place(str(self.file))
                ) from None
        if self.descriptor is not None:
            try:
                return self._checked(_first_line(self.descriptor), f"file descriptor {self.descriptor}")
            except OSError as error:
                raise KeyFileError(
                    f"no passphrase can be read from file descriptor {self.descriptor}: {error.strerror}",
                    hint=f"the shell opens one with --passphrase-fd {self.descriptor} {self.descriptor}<FILE",
                ) from None
        if VARIABLE in self.environment:
            return self._checked(os.fsencode(self.environment[VARIABLE]), f"the environment variable {VARIABLE}")
        if self.ask is None:
            raise KeyFileError(f"there is no passphrase for {purpose}, and nobody to ask", hint=self._sources)
        answer = self._checked(self.ask(f"Passphrase for {purpose}: ").encode(), "the passphrase")
        if confirm and self.ask("The same again: ").encode() != answer:
            raise KeyFileError("the two passphrases differ", hint="try again")
        return answer

    @property
    def _sources(self) -> str:
        return _VARIABLES + (", or use --passphrase-file or --passphrase-fd" if self.options else "")

    def _checked(self, passphrase: bytes, origin: str) -> bytes:
        if not passphrase:
            raise KeyFileError(f"{origin} is empty", hint=self._sources)
        if len(passphrase) > MAX_LENGTH:
            raise KeyFileError(f"{origin} is longer than {MAX_LENGTH} bytes")
        return passphrase


def passphrase_from(
    environment: Mapping[str, str], *, file: Path | None = None, descriptor: int | None = None, options: bool = True
) -> Passphrase:
    """The source that a command's options or the environment name, or else this process's terminal; ``options`` is
    false for commands that have none for it.

    Raises ``KeyFileError`` where the options name two.
    """
    if file is not None and descriptor is not None:
        raise KeyFileError("a passphrase can come from a file or from a file descriptor, not from both")
    if file is None and descriptor is None and VARIABLE not in environment and environment.get(FILE_VARIABLE):
        file = Path(environment[FILE_VARIABLE])  # for builds, which have no options for it
    return Passphrase(file, descriptor, environment, terminal_prompt(), options)


def terminal_prompt() -> Callable[[str], str] | None:
    """Ask on the terminal without showing what is typed; ``None`` when there is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():  # None: it was closed before this program began
        return None
    import getpass
    import termios  # not every system has it

    before = termios.tcgetattr(sys.stdin)

    def restore() -> None:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)

    def ask(prompt: str) -> str:
        # Ctrl-C ends the main thread, while this one may be another that waits here: what is typed has to show again.
        atexit.register(restore)
        try:
            with TERMINAL.to_ask():
                return getpass.getpass(prompt)
        finally:
            atexit.unregister(restore)

    return ask


def _first_line(descriptor: int) -> bytes:
    data = b""
    while b"\n" not in data and len(data) <= MAX_LENGTH + 2:
        more = os.read(descriptor, MAX_LENGTH + 2)
        if not more:
            break
        data += more
    return data.split(b"\n", 1)[0].removesuffix(b"\r")
