from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flatpack_build.errors import LockError
from flatpack_build.manifest.lock import (
    HEADER,
    Lock,
    LockedSource,
    LockedWheel,
    LockedWheels,
    check_lock,
    read_lock,
    write_lock,
)

A, B, C = "a" * 64, "b" * 64, "c" * 64
MODEL = LockedSource(
    "pypi:m==1#m/Model.Q4_1.gguf",
    {"Model.Q4_1.gguf": A},
    {"wheel": "m-1-py3-none-any.whl", "wheel_sha256": B},
    98362432,
    {"architecture": "llama", "layers": 30, "share": 0.5},
)
REPO = LockedSource("git+https://example.org/r@main", {}, {"commit": "ab" * 20, "tree": C}, 12)
FOLDER = LockedSource("pypi:m==1#m/", {"sub/x y.txt": A, "ä.txt": B}, {"wheel": "m-1.whl", "wheel_sha256": B}, 1)
WHEELS = LockedWheels(
    "aarch64-manylinux_2_31", "3.11", ("numpy>=2", "six"), (LockedWheel("six", "1.16.0", "six-1.16.0-py3.whl", A),)
)
NONE = LockedWheels("x86_64-manylinux_2_28", "3.11", (), ())
LOCK = Lock({source.source: source for source in (MODEL, REPO, FOLDER)}, (WHEELS, NONE))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flatpack.lock"


def test_written_and_read(path: Path) -> None:
    write_lock(path, LOCK)
    assert read_lock(path) == LOCK
    assert path.read_text().startswith(f"# {HEADER}\nversion = 1\n")


def test_an_empty_lock(path: Path) -> None:
    write_lock(path, Lock({}))
    assert read_lock(path) == Lock({})


def test_the_same_lock_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    write_lock(path, LOCK)
    other = tmp_path / "other.lock"
    turned = {
        key: replace(source, files=dict(sorted(source.files.items(), reverse=True)))
        for key, source in reversed(list(LOCK.sources.items()))
    }
    requirements = replace(WHEELS, requirements=("six", "numpy>=2"))
    write_lock(other, Lock(turned, (NONE, requirements)))
    assert other.read_bytes() == path.read_bytes()


def test_read_and_written_again_nothing_changes(path: Path) -> None:
    write_lock(path, LOCK)
    before = path.read_bytes()
    write_lock(path, read_lock(path))
    assert path.read_bytes() == before


def test_missing(path: Path) -> None:
    with pytest.raises(LockError, match=r"flatpack\.lock: there is no such lock") as caught:
        read_lock(path)
    assert "flatpack lock" in caught.value.hint


def test_broken_toml_names_the_line(path: Path) -> None:
    path.write_text('version = 1\n[[source]]\nsource = "a\n')
    with pytest.raises(LockError, match=r"flatpack\.lock:3:\d+: damaged"):
        read_lock(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LockError, match="damaged"):
        read_lock(path)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("version = 1", "version = 2", "update|version is 2"),
        ("version = 1", "", "version is None"),
        (f'"{A}"', '"abc"', "not a sha256"),
        ('"Model.Q4_1.gguf"', '"../Model"', "no path below"),
        ('"Model.Q4_1.gguf"', '"/Model"', "no path below"),
        ("size = 98362432", "size = -1", "'size' must be"),
        ("size = 98362432", 'size = "x"', "'size' must be"),
        ("size = 98362432", "size = true", "'size' must be"),
        ("size = 98362432", "size = 1\nbogus = 1", "unknown key 'bogus'"),
        ("layers = 30", "layers = [1]", "'layers' must be"),
        ('python = "3.11"', "python = 3.11", "'python' must be"),
        ("six-1.16.0-py3.whl", "../six.whl", "no path below"),
        ("six-1.16.0-py3.whl", "six.tar.gz", "no wheel's name"),
        (f'tree = "{C}"', 'tree = "x"', "not a sha256"),
        (f'tree = "{C}"', "", "neither files nor a tree"),
        (f'commit = "{"ab" * 20}"', 'other = "x"', "has no 'commit'"),
        ("git+https://example.org/r@main", "https://example.org/r", "one file, not in a folder, is expected"),
        ("git+https://example.org/r@main", "hf:a/b#c", "one file, not in a folder, is expected"),
        ("git+https://example.org/r@main", "pypi:b==1#c", "has no 'wheel'"),
        ("git+https://example.org/r@main", "what:x", "unknown kind of source"),
        ("size = 98362432", "size = " + "9" * 5000, "damaged"),
        ("size = 98362432", "size = " + "[" * 5000, "damaged"),
        ("pypi:m==1#m/", "git+https://example.org/r@main", "stands there twice"),
        ("[source.identity]", "identity = 1\n[source.other]", "damaged"),
    ],
)
def test_damage_is_named(path: Path, old: str, new: str, why: str) -> None:
    write_lock(path, LOCK)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(LockError, match=why) as caught:
        read_lock(path)
    assert caught.value.place is not None
    assert caught.value.hint


def test_a_lock_that_fits() -> None:
    key = (WHEELS.platform, WHEELS.python, ("six", "numpy>=2"))
    check_lock(LOCK, list(LOCK.sources), [key, NONE.key], "flatpack.lock")
    assert LOCK.wheels_for(*key) == WHEELS
    assert LOCK.wheels_for("x", "3.11", ()) is None


def test_a_lock_that_does_not_fit() -> None:
    sources = [MODEL.source, "https://example.org/new.gguf"]
    with pytest.raises(LockError) as caught:
        check_lock(LOCK, sources, [(WHEELS.platform, "3.13", WHEELS.requirements), NONE.key], "w/x/flatpack.lock", "x")
    text = str(caught.value)
    needs, has = text.split("the lock has")
    assert text.startswith("w/x/flatpack.lock: ")
    assert "https://example.org/new.gguf" in needs
    assert "Python 3.13: numpy>=2, six" in needs
    assert REPO.source in has
    assert "Python 3.11: numpy>=2, six" in has
    assert MODEL.source not in text
    assert caught.value.hint == "run: flatpack lock x"


def test_parameters_hold_what_decides_the_bytes() -> None:
    params = MODEL.params()
    assert (params.source, params.files, params.identity) == (MODEL.source, MODEL.files, MODEL.identity)
    wheels = WHEELS.params()
    assert wheels.source == "wheels:aarch64-manylinux_2_31"
    assert wheels.files == {"six-1.16.0-py3.whl": A}
    assert "six" not in str(wheels.identity), "other words for the same wheels are the same action"
    file = LockedSource("../somewhere/m.gguf", {"m.gguf": A}, {}, 1)
    assert file.params().source == "file:m.gguf"
