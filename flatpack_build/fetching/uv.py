"""Ask uv which wheels another platform needs, reaching the index that pip is configured to reach. Downloads nothing."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.errors import SourceError

_UV_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")
_UV_SETTINGS = {"index", "index-url", "extra-index-url", "find-links", "no-index"}


@dataclass(frozen=True)
class Pin:
    """One release that was chosen, and the sha256 of each of its files that may serve."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        """As a requirements file has it."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{digest}" for digest in self.hashes)])


def _pip_settings() -> dict[str, str]:
    """pip's configuration as pip itself merges it; the environment goes before the command, that before global."""
    command = [sys.executable, "-P", "-m", "pip", "config", "list", "--disable-pip-version-check"]
    answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    found: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}
    for line in answer.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in found:
            try:
                found[section][name] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                continue
    return {**found["global"], **found["download"], **found[":env:"]}


def _has_own_index(environ: Mapping[str, str]) -> bool:
    if any(environ.get(name) for name in _UV_INDEXES):
        return True
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/nonexistent") / ".config")
    for path in (Path(environ.get("UV_CONFIG_FILE") or home / "uv" / "uv.toml"), Path("/etc/uv/uv.toml")):
        try:
            settings = tomllib.loads(path.read_text())
        except (OSError, ValueError):
            continue
        pip = settings.get("pip", {})
        if _UV_SETTINGS & (settings.keys() | (pip.keys() if isinstance(pip, dict) else set())):
            return True
    return False


def environment(environ: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """``environ`` and what pip is configured to (index, certificates, proxy) in uv's words, where uv has no own."""
    added: dict[str, str] = {}
    if not _has_own_index(environ):
        if "index-url" in pip:
            added["UV_DEFAULT_INDEX"] = pip["index-url"]
        if extra := pip.get("extra-index-url", "").split():
            added["UV_INDEX"] = " ".join(extra)
            # pip takes the best version of all its indexes; uv by default that of the first that has the package.
            if not environ.get("UV_INDEX_STRATEGY"):
                added["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        if links := pip.get("find-links", "").split():
            added["UV_FIND_LINKS"] = ",".join(links)
        if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
            added["UV_NO_INDEX"] = "1"
    if (hosts := pip.get("trusted-host", "").split()) and not environ.get("UV_INSECURE_HOST"):
        added["UV_INSECURE_HOST"] = " ".join(hosts)
    if not environ.get("SSL_CERT_FILE"):
        if "cert" in pip:
            added["SSL_CERT_FILE"] = pip["cert"]
        elif not environ.get("UV_NATIVE_TLS") and not environ.get("UV_SYSTEM_CERTS"):
            # pip trusts what the system trusts; so shall uv, under its new name for it and its old one.
            added |= {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    if "proxy" in pip:
        proxies = [name for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy") if environ.get(name)]
        added |= {} if proxies else {"ALL_PROXY": pip["proxy"]}
    return {**environ, **added}


def compile_pins(platform: str, python: str, requirements: Sequence[str], work: Path) -> list[Pin]:
    """Which releases ``requirements`` and all they depend on come to, on ``platform`` (uv's name) and ``python``.

    Wheels only. Raises ``SourceError`` when there is no solution or no index to ask.
    """
    import uv  # finds the program that the distribution brought

    try:
        program = uv.find_uv_bin()
    except FileNotFoundError as error:
        raise SourceError(f"wheels for {platform}: the program uv is missing", hint="run: pip install uv") from error
    listing = work / "requirements.in"
    listing.write_text("".join(line + "\n" for line in requirements))
    command = [program, "pip", "compile", "--python-platform", platform, "--python-version", python,
               "--generate-hashes", "--only-binary", ":all:", "--no-header", "--no-annotate", "--no-progress",
               "--color", "never", "--no-python-downloads", listing.name]  # fmt: skip
    settings = environment(os.environ, _pip_settings())
    answer = subprocess.run(
        command, cwd=work, capture_output=True, text=True, env=settings, stdin=subprocess.DEVNULL, check=False
    )
    if answer.returncode:
        raise _explain(platform, python, requirements, answer.stderr)
    return _parse(answer.stdout, platform)


def _parse(output: str, platform: str) -> list[Pin]:
    pins = []
    for line in output.replace("\\\n", " ").splitlines():
        words = line.split("#")[0].split()
        if not words or words[0].startswith("-"):
            continue
        name, pinned, version = words[0].partition("==")
        hashes = tuple(word.removeprefix("--hash=sha256:") for word in words if word.startswith("--hash=sha256:"))
        if not pinned or not hashes:
            raise SourceError(f"wheels for {platform}: {words[0]!r} cannot be locked by its hash",
                              hint="name a release of a package index, such as numpy>=2")  # fmt: skip
        pins.append(Pin(name, version, hashes))
    return pins


def _explain(platform: str, python: str, requirements: Sequence[str], output: str) -> SourceError:
    output = re.sub(r"//[^/\s]*@", "//***@", output)
    what = f"wheels for {platform}, Python {python} ({', '.join(requirements)})"
    if "invalid value" in output and "--python-platform" in output:
        return SourceError(f"{what}: uv knows no such platform", hint="correct `wheels` in the target's profile")
    if any(sign in output for sign in ("error sending request", "Could not connect", "Failed to fetch", "dns error")):
        hint = "check the network, and `pip config list` or uv's own settings"
        return SourceError(f"{what}: the package index cannot be reached", hint=hint)
    words = " ".join(output.encode("ascii", "ignore").decode().split())
    words = re.sub(r"Resolved \d+ packages? in \S+", "", words)
    reason = (
        re.split(r"(?:cause: |No solution found when resolving dependencies:? ?)", words)[-1].strip() or "no reason"
    )
    hint = "loosen the requirement, or name a package that has wheels for this platform"
    return SourceError(f"{what}: no set of wheels fits: {reason[:600]}", hint=hint)
