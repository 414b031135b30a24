"""``flatpack unbox`` as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flatpack_build.box.container import sign_payload
from flatpack_build.box.packing import PayloadEntry, write_payload
from flatpack_build.cli.unbox import unbox
from flatpack_build.errors import FlatpackError
from flatpack_build.targets import host_profile
from tests.box.archives import GOOD, OLD, A, archive, file, folder, manifest, signed, tree
from tests.box.samples import ENTRIES, KeyPair, make_box
from tests.faults.mounts import need_mounts, remount, small_disk

_SIZE = len(ENTRIES) - 1  # one of them is a folder; payload.json, their list, does not count


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair(tmp_path_factory.mktemp("keys"), "maker")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair(tmp_path_factory.mktemp("keys"), "stranger")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the command is called in, with nothing in it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"


def _unbox(*arguments: str | Path, trust: str = "enforce") -> Result:
    return CliRunner(env={"FLATPACK_TRUST": trust}).invoke(unbox, [os.fspath(each) for each in arguments])


def _refusal(result: Result, here: Path, *left: str) -> FlatpackError:
    """What it was refused with; in the folder is what was there before."""
    assert isinstance(result.exception, FlatpackError), result.output
    assert sorted(os.listdir(here)) == sorted(left)
    return result.exception


def test_a_good_box_goes_into_a_folder_named_after_it(tmp_path: Path, here: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    result = _unbox(box, "--key", key.public_file)
    assert result.exit_code == 0, result.output
    assert os.listdir(here) == ["chat"]
    assert (here / "chat" / "weights.bin").read_bytes() == ENTRIES[-1].source
    lines = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert lines["unboxed"].startswith(f"chat 0.1.0 for pi5: {_SIZE} files")
    assert lines["signed"] == f"by   {key.public.key_id[:12]}, a development key, trusted as maker.pub.pem (option)"
    assert lines["folder"] == "chat"
    assert lines["next"].startswith("cd chat && ./build.sh")


def test_json_and_a_folder_of_ones_own(tmp_path: Path, here: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    result = _unbox(box, "--key", key.public_file, "--to", "deep/mine", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["flatpack"], said["version"], said["target"], said["files"]) == ("chat", "0.1.0", "pi5", _SIZE)
    assert said["folder"] == str(here / "deep" / "mine") and said["key"] == key.public.key_id
    found = [path for path in (here / "deep" / "mine").rglob("*") if path.is_file() and path.name != "payload.json"]
    assert (len(found), sum(path.stat().st_size for path in found)) == (said["files"], said["size"])


def test_refused_boxes_leave_nothing(tmp_path: Path, here: Path, key: KeyPair, stranger: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    assert "unknown key" in _refusal(_unbox(box, "--key", stranger.public_file), here).message
    assert "trusted keys: none" in _refusal(_unbox(box), here).message
    data = bytearray(box.read_bytes())
    data[len(data) // 2] ^= 1
    box.write_bytes(data)
    for trust in ("enforce", "warn", "off"):
        options: list[str | Path] = ["--key", key.public_file] if trust == "enforce" else []
        error = _refusal(_unbox(box, *options, trust=trust), here)
        assert error.place and error.place.file == str(box)


def test_a_folder_that_is_there(tmp_path: Path, here: Path, key: KeyPair) -> None:
    options: list[str | Path] = ["--key", key.public_file]
    old = make_box(tmp_path, key.private, name="old.fpk")
    new = make_box(tmp_path, key.private, [*ENTRIES, PayloadEntry("new", b"new")], name="new.fpk")
    assert _unbox(old, *options).exit_code == 0
    before = tree(here / "chat")
    for more in ([], ["--to", "chat"]):
        error = _refusal(_unbox(new, *options, *more), here, "chat")
        assert "there already" in error.message and "--replace" in error.hint
        assert tree(here / "chat") == before
    assert _unbox(new, *options, "--replace").exit_code == 0
    assert os.listdir(here) == ["chat"]
    assert (here / "chat" / "new").read_bytes() == b"new"


@pytest.mark.parametrize("what", ["flatpack.toml", "payload.json"])
def test_only_what_was_unboxed_is_replaced(tmp_path: Path, here: Path, key: KeyPair, what: str) -> None:
    box = make_box(tmp_path, key.private)
    (here / "chat").mkdir()
    assert _unbox(box, "--key", key.public_file, "--replace").exit_code == 0, "an empty folder is nobody's"
    other = manifest([A]).replace(b'"chat"', b'"talk"') if what == "payload.json" else b"mine"
    (here / "mine").mkdir()
    (here / "mine" / what).write_bytes(other)
    error = _refusal(_unbox(box, "--key", key.public_file, "--replace", "--to", "mine"), here, "chat", "mine")
    assert "is not replaced" in error.message
    assert tree(here / "mine") == {what: other}


@pytest.mark.parametrize("trust", ["warn", "off"])
def test_lower_trust_unpacks_and_says_so(tmp_path: Path, here: Path, key: KeyPair, trust: str) -> None:
    box = make_box(tmp_path, key.private)
    result = _unbox(box, trust=trust)
    assert result.exit_code == 0, result.output
    assert {"warn": "signed by an unknown key", "off": "trust is off"}[trust] in result.stderr
    assert {"warn": "NOT TRUSTED", "off": "nobody looked"}[trust] in result.stdout
    assert (here / "chat" / "payload.json").is_file()


@pytest.mark.parametrize("trust", ["warn", "off"])
@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([*GOOD, file("chat/../x")], "leaves the folder"),
        ([*GOOD, file("/x")], "is absolute"),
        ([*GOOD, file("chat/c", b"c")], "not in its manifest"),
        ([*GOOD[:-1]], "not in the box"),
        ([*GOOD[:2], file("chat/a", b"b"), *GOOD[3:]], "has not the digest"),
        ([*GOOD[:2], file("chat/a", b"a", 0o4755), *GOOD[3:]], "setuid"),
        ([folder("chat"), file("chat/payload.json", manifest([A]).replace(b'"chat"', b'"../x"'))], "cannot be named"),
    ],
)
def test_nobody_vouches_and_all_is_as_strict(
    tmp_path: Path, here: Path, key: KeyPair, trust: str, items: list[tuple[bytes, bytes]], said: str
) -> None:
    box = signed(tmp_path / "bad.fpk", archive(items), key.private)
    assert said in _refusal(_unbox(box, trust=trust), here).message


def test_boxes_of_the_original_only_when_asked(tmp_path: Path, here: Path, key: KeyPair) -> None:
    box = signed(tmp_path / "old.fpk", archive(OLD), key.private)
    options: list[str | Path] = ["--key", key.public_file]
    assert "--allow-unlisted" in _refusal(_unbox(box, *options), here).hint
    result = _unbox(box, *options, "--allow-unlisted")
    assert result.exit_code == 0, result.output
    assert tree(here / "chat") == {"b.sh": b"bb", "sub": None, "sub/a": b"a"}
    single = signed(tmp_path / "notes.fpk", b"hello", key.private)
    assert _unbox(single, *options, "--allow-unlisted").exit_code == 0
    assert tree(here / "notes") == {"notes": b"hello"}
    hostile = signed(tmp_path / "worse.fpk", archive([*OLD, file("chat/../../x")]), key.private)
    error = _refusal(_unbox(hostile, "--allow-unlisted", "--to", "x", trust="off"), here, "chat", "notes")
    assert "leaves the folder" in error.message


def _make(folder: Path, key: KeyPair, name: str, version: str, target: str, flatpack: str = "chat") -> None:
    payload = folder / "payload"
    with open(payload, "wb") as out:
        write_payload([PayloadEntry("a", b"a")], out, flatpack=flatpack, version=version, target=target)
    sign_payload(payload, folder / name, key.private, durable=False)
    payload.unlink()


def test_the_newest_box_for_this_machine_is_found_by_name(here: Path, key: KeyPair) -> None:
    dist, host = here / "dist", host_profile()
    dist.mkdir()
    profile = f'architecture = "{host.architecture}"\nos = "{host.os}"\npython = "3.11"\ngguf_quants = ["Q8_0"]\n'
    other = profile.replace(f'"{host.architecture}"', '"arm64"' if host.architecture != "arm64" else '"x86_64"')
    (here / "pyproject.toml").write_text("[tool.flatpack-build]\n")
    (here / "targets").mkdir()
    (here / "targets" / "mine.toml").write_text(profile)
    (here / "targets" / "other.toml").write_text(other)
    for version in ("0.9.0", "0.10.0"):
        for target in ("mine", "other"):
            _make(dist, key, f"chat-{version}-{target}.fpk", version, target)
    _make(dist, key, "chat-9.0-mine.fpk", "9.0", "mine", flatpack="chat-other")
    _make(dist, key, "chat-9-mine.fpk", "9" * 5000, "mine")
    (dist / "chat-broken.fpk").write_bytes(b"x")
    options: list[str | Path] = ["chat", "--local", "--json", "--key", key.public_file]
    result = _unbox(*options, "--to", "out")
    assert result.exit_code == 0, result.output
    assert (json.loads(result.stdout)["version"], json.loads(result.stdout)["target"]) == ("0.10.0", "mine")
    assert json.loads(_unbox(*options, "--to", "far", "--target", "other").stdout)["target"] == "other"
    left = ("dist", "far", "out", "pyproject.toml", "targets")
    error = _refusal(_unbox(*options, "--target", "pi9"), here, *left)
    assert "pi9" in error.message and "0.10.0 for mine" in error.hint
    _make(here, key, "chat.fpk", "0.10.0", "mine")
    assert "more than one" in _refusal(_unbox(*options), here, "chat.fpk", *left).message
    _make(here, key, "chat.fpk", "1.0", "other")
    assert "no box of version 1.0 is for this machine" in _refusal(_unbox(*options), here, "chat.fpk", *left).message


def test_a_name_says_what_to_do(here: Path) -> None:
    assert "flatpack unbox chat --local" in _refusal(_unbox("chat"), here).hint
    assert _refusal(_unbox("chat", "--local"), here).hint == "name its file"
    manifest = here / "warehouse" / "chat" / "flatpack.toml"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    assert _refusal(_unbox("chat", "--local"), here, "warehouse").hint == "make one: doit build:chat"
    assert "did you mean 'chat'?" in _refusal(_unbox("chta", "--local"), here, "warehouse").hint
    shutil.rmtree(here / "warehouse")
    assert _refusal(_unbox("chat.fpk"), here).message == "there is no such box"
    assert _unbox("chat.fpk", "--target", "pi5").exit_code == 2
    assert "flatpack unbox chat --local" in CliRunner().invoke(unbox, ["--help"]).output


def _process(here: Path, box: Path, key: KeyPair) -> subprocess.Popen[str]:
    command: list[str | Path] = [sys.executable, "-m", "flatpack_build", "unbox", box, "--key", key.public_file]
    return subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _large(tmp_path: Path, key: KeyPair) -> Path:
    return make_box(tmp_path, key.private, [PayloadEntry(f"noise{at}", os.urandom(2_000_000)) for at in range(20)])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_ended_on_the_way(tmp_path: Path, here: Path, key: KeyPair, how: signal.Signals) -> None:
    box = _large(tmp_path, key)
    process = _process(here, box, key)
    while process.poll() is None and not list(here.glob(".chat.*/new/noise0")):
        time.sleep(0.001)
    process.send_signal(how)
    _, said = process.communicate()
    if process.returncode == 0:
        pytest.skip("it was done before it could be ended")
    assert "Traceback" not in said
    assert not (here / "chat").exists()
    if how is signal.SIGTERM:
        assert process.returncode == 130 and os.listdir(here) == []
    result = _unbox(box, "--key", key.public_file)
    assert result.exit_code == 0, result.output
    assert os.listdir(here) == ["chat"]


def test_a_full_disk(tmp_path: Path, here: Path, key: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    need_mounts(tmp_path)
    box = make_box(tmp_path, key.private, [PayloadEntry(f"file{at}", b"x") for at in range(300)])
    monkeypatch.chdir(tmp_path)
    with small_disk(here, "size=512k"):  # enough for 300 bytes, not for 300 pages
        process = _process(here, box, key)
        _, said = process.communicate()
        assert process.returncode == 1
        assert "No space left on device" in said and "make room on the disk" in said
        assert os.listdir(here) == []
        remount(here, "size=8m")
        assert _unbox(box, "--key", key.public_file, "--to", here / "chat").exit_code == 0
        assert os.listdir(here) == ["chat"]
