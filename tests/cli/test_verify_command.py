from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flatpack_build.box.container import SEPARATOR
from flatpack_build.cli.verify import verify
from flatpack_build.errors import BoxError, KeyFileError
from tests.box.samples import KeyPair, make_box


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair(tmp_path_factory.mktemp("keys"), "signing")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Path:
    """A folder of three boxes: a good one, one that was changed, and one that is none."""
    folder = tmp_path_factory.mktemp("dist")
    good = make_box(folder, key.private, name="good.fpk")
    data = bytearray(good.read_bytes())
    data[1000] ^= 1
    (folder / "sub").mkdir()
    (folder / "sub" / "changed.fpk").write_bytes(data)
    (folder / "none.fpk").write_bytes(b"hello")
    return folder


def _verify(key: KeyPair, *arguments: str | Path) -> Result:
    return CliRunner().invoke(verify, [*map(str, arguments), "--key", str(key.public_file)])


@pytest.mark.parametrize("options", [[], ["--contents"]])
def test_a_good_box(boxes: Path, key: KeyPair, options: list[str]) -> None:
    result = _verify(key, boxes / "good.fpk", *options)
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if "good.fpk" in line)
    for word in ("OK", "chat", "0.1.0", "pi5", "5", key.public.key_id[:12], "(development)"):
        assert word in row
    assert "refused" not in result.output


def test_a_folder_with_bad_ones(boxes: Path, key: KeyPair) -> None:
    result = _verify(key, boxes)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["OK", "refused", "refused"]
    text = " ".join(result.output.split())
    assert "changed.fpk: the payload is damaged" in text.replace("sub/ ", "sub/")
    assert "none.fpk: this is not a box" in text
    assert "hint: fetch the box again" in text


def test_json(boxes: Path, key: KeyPair) -> None:
    result = _verify(key, boxes, boxes / "missing.fpk", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["refused"] == 3
    good, none, changed, missing = report["boxes"]
    assert good["ok"] is True
    assert (good["flatpack"], good["version"], good["target"], good["files"]) == ("chat", "0.1.0", "pi5", 5)
    assert good["key"] == key.public.key_id and good["hash"] == "sha256" and good["development_key"] is True
    assert good["size"] == (boxes / "good.fpk").stat().st_size
    assert none["error"].startswith("this is not a box") and none["ok"] is False
    assert changed["error"].startswith("the payload is damaged") and changed["hint"]
    assert missing["error"] == "there is no such box"


def test_another_key(boxes: Path, key: KeyPair, tmp_path: Path) -> None:
    other = KeyPair(tmp_path, "other")
    result = _verify(other, boxes / "good.fpk")
    assert result.exit_code == 1
    text = " ".join(result.output.split())
    assert "unknown key" in text and other.public.key_id[:12] in text
    assert _verify(other, boxes / "good.fpk", "--key", key.public_file).exit_code == 0


def test_contents_are_checked_when_asked(boxes: Path, key: KeyPair, tmp_path: Path) -> None:
    (tmp_path / "old.fpk").write_bytes((boxes / "good.fpk").read_bytes().replace(SEPARATOR, SEPARATOR[::-1]))
    assert _verify(key, tmp_path / "old.fpk", "--contents").exit_code == 1


def test_mistakes(boxes: Path, key: KeyPair, tmp_path: Path) -> None:
    assert CliRunner().invoke(verify, ["--key", str(key.public_file)]).exit_code == 2
    (tmp_path / "empty").mkdir()
    assert isinstance(_verify(key, tmp_path / "empty").exception, BoxError)
    result = CliRunner().invoke(verify, [str(boxes), "--key", str(key.private_file)])
    assert isinstance(result.exception, KeyFileError)


def test_help_has_an_example() -> None:
    assert "flatpack verify dist --key" in CliRunner().invoke(verify, ["--help"]).output
