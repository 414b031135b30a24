"""``flatpack trust``, ``sign``, ``verify``, ``inspect`` and ``diff`` as a person uses them, in a project and outside."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flatpack_build.box.container import verify_box
from flatpack_build.box.keys import generate_key, load_public_key
from flatpack_build.box.packing import PayloadEntry, write_payload
from flatpack_build.cli import cli
from flatpack_build.errors import BoxError, FlatpackError, KeyFileError, UsageError
from tests.box.original import original_folder
from tests.box.samples import ENTRIES, KeyPair, make_box, make_payload
from tests.gguf_files import gguf


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair(tmp_path_factory.mktemp("keys"), "maker")


@pytest.fixture(scope="module")
def secret_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key that is no development key; its passphrase is "secret"."""
    path = tmp_path_factory.mktemp("keys") / "release.pem"
    generate_key(path, passphrase=b"secret", development=False, bits=2048)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is no project."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def project(here: Path) -> Path:
    (here / "pyproject.toml").write_text("[tool.flatpack-build]\n")
    (here / "warehouse").mkdir()
    return here


def run(*arguments: str | Path, code: int | None = 0, **environment: str) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env=environment)
    if code is not None:
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def failure(*arguments: str | Path, **environment: str) -> FlatpackError:
    result = run(*arguments, code=None, **environment)
    assert isinstance(result.exception, FlatpackError), result.output
    return result.exception


def test_trusting_a_key_makes_its_boxes_good(here: Path, secret_key: Path) -> None:
    (here / "chat").mkdir()
    (here / "chat" / "a.txt").write_text("hello")
    run("sign", "chat", "-o", "a.fpk", "--key", secret_key, FLATPACK_PASSPHRASE="secret")
    public = secret_key.with_name("release.pub.pem")
    key_id = load_public_key(public).key_id
    assert run("verify", "a.fpk", code=1).output.startswith(" ")
    assert "no key is trusted" in run("trust", "list").output
    output = run("trust", "add", public, "--name", "vendor", "--flatpack", "demo-*", "--flatpack", "x").output
    assert output == f"trusted: vendor {key_id[:12]}, for demo-*, x, in every project of yours\n"
    refused = json.loads(run("verify", "a.fpk", "--json", code=1).stdout)["boxes"][0]
    assert "signed by vendor" in refused["error"] and "may not sign the flatpack 'chat'" in refused["error"]
    run("trust", "add", public, "--flatpack", "chat")
    good = json.loads(run("verify", "a.fpk", "--json").stdout)["boxes"][0]
    assert (good["ok"], good["trusted_as"], good["key"], good["warning"]) == (True, "vendor", key_id, None)
    listed = json.loads(run("trust", "list", "--json").stdout)
    assert listed["mode"] == "enforce"
    assert [(each["name"], each["key"], each["flatpacks"], each["scope"]) for each in listed["keys"]] == [
        ("vendor", key_id, ["chat"], "user")
    ]
    table = run("trust", "list").output
    assert "vendor" in table and key_id[:12] in table and "chat" in table
    run("trust", "remove", key_id[:10])
    run("verify", "a.fpk", code=1)
    assert isinstance(failure("trust", "remove", "vendor"), UsageError)
    run("verify", "a.fpk", "--key", public)


def test_a_key_for_the_project(project: Path, secret_key: Path) -> None:
    public = secret_key.with_name("release.pub.pem")
    run("trust", "add", public, "--project")
    assert (project / "keys/trusted/release.pub.pem").exists()
    assert json.loads(run("trust", "list", "--json").stdout)["keys"][0]["scope"] == "project"
    run("trust", "add", public)
    error = failure("trust", "remove", "release")
    assert "more than one key" in error.message and "--user or --project" in error.hint
    assert "(project)" in run("trust", "remove", "release", "--project").output
    assert "(user)" in run("trust", "remove", "release").output


def test_a_key_for_the_project_needs_one(here: Path, secret_key: Path) -> None:
    error = failure("trust", "add", secret_key.with_name("release.pub.pem"), "--project")
    assert "not inside a flatpack project" in error.message
    assert isinstance(failure("trust", "add", "missing.pem"), KeyFileError)
    assert "private key" in failure("trust", "add", secret_key).message


def test_a_projects_own_boxes_are_good_there_only(project: Path, key: KeyPair, tmp_path: Path) -> None:
    (project / "keys").mkdir()
    for file, name in ((key.private_file, "development.pem"), (key.public_file, "development.pub.pem")):
        (project / "keys" / name).write_bytes(file.read_bytes())
    original_folder(project / "warehouse")
    output = run("sign", "warehouse/chat").output
    assert output.startswith("signed chat-0.0.3-any.fpk: ") and output.endswith("(development)\n")
    row = next(line for line in run("verify", "chat-0.0.3-any.fpk").output.splitlines() if "OK" in line)
    assert "chat" in row and "(development)" in row
    (tmp_path / "other").mkdir()
    os.chdir(tmp_path / "other")
    run("verify", project / "chat-0.0.3-any.fpk", code=1)
    error = failure("trust", "add", key.public_file)
    assert "development key" in error.message and "--development" in error.hint
    run("trust", "add", key.public_file, "--development")
    run("verify", project / "chat-0.0.3-any.fpk")


@pytest.mark.parametrize(("mode", "status"), [("warn", "not trusted"), ("off", "not checked")])
def test_the_other_modes(here: Path, key: KeyPair, mode: str, status: str) -> None:
    make_box(here, key.private, name="a.fpk")
    result = run("verify", "a.fpk", FLATPACK_TRUST=mode)
    assert next(line for line in result.output.splitlines() if "a.fpk" in line).startswith(status)
    assert "warning" in result.output
    report = json.loads(run("verify", "a.fpk", "--json", FLATPACK_TRUST=mode).stdout)
    assert report["refused"] == 0
    assert report["boxes"][0]["warning"] and report["boxes"][0]["trusted_as"] is None
    assert "FLATPACK_TRUST" in failure("verify", "a.fpk", FLATPACK_TRUST="yes").message
    assert run("trust", "list", FLATPACK_TRUST=mode).output.startswith(f"trust: {mode} (")


def test_a_key_that_is_given_counts_alone_whatever_the_mode(here: Path, key: KeyPair, tmp_path: Path) -> None:
    other = KeyPair(tmp_path, "other")
    make_box(here, key.private, name="a.fpk")
    run("verify", "a.fpk", "--key", other.public_file, code=1, FLATPACK_TRUST="off")


# --- sign


def test_a_payload_and_a_box_are_signed_again(here: Path, key: KeyPair, secret_key: Path) -> None:
    make_payload(here / "payload.tar.zst")
    release = load_public_key(secret_key.with_name("release.pub.pem"))
    options: list[str | Path] = ["--key", secret_key, "--passphrase-file", "secret"]
    (here / "secret").write_text("secret\n")
    assert "signed chat-0.1.0-pi5.fpk" in run("sign", "payload.tar.zst", "--key", key.private_file).output
    assert "unknown key" in failure("sign", "chat-0.1.0-pi5.fpk", *options).message
    run("trust", "add", key.public_file, "--development")
    run("sign", "chat-0.1.0-pi5.fpk", *options, "--hash", "sha512")
    verified = verify_box(here / "chat-0.1.0-pi5.fpk", [release])
    assert verified.hash.value == "sha512"
    assert verified.payload_size == (here / "payload.tar.zst").stat().st_size
    assert stat.S_IMODE((here / "chat-0.1.0-pi5.fpk").stat().st_mode) == 0o644


def test_what_cannot_be_signed(here: Path, key: KeyPair) -> None:
    (here / "a.txt").write_text("hello")
    assert isinstance(failure("sign", "a.txt", "--key", key.private_file), BoxError)
    assert (
        "no key to sign with"
        in failure("sign", make_box(here, key.private, name="x.fpk"), FLATPACK_TRUST="off").message
    )
    run("sign", "missing", code=2)
    make_payload(here / "p")
    run("sign", "p", "--target", "pi5", "--key", key.private_file, code=2)
    run("sign", "p", "--passphrase", "x", code=2)


# --- inspect and diff


def test_inspect_shows_everything_of_a_box_that_is_trusted_or_not(here: Path, key: KeyPair) -> None:
    entries = [PayloadEntry("a.txt", b"hello"), PayloadEntry("m.gguf", gguf()), PayloadEntry("sbom.cdx.json", b"{}")]
    make_box(here, key.private, entries, name="a.fpk")
    assert "NOT TRUSTED" not in run("inspect", "a.fpk", "--key", key.public_file).output
    output = run("inspect", "a.fpk", code=1).output
    assert "NOT TRUSTED" in output and "architecture  llama" in output and "m.gguf" in output
    assert "sbom.cdx.json cannot be read" in output
    run("trust", "add", key.public_file, "--development")
    assert f"signed by   {key.public.key_id} (sha256, a development key)" in run("inspect", "a.fpk").output
    report = json.loads(run("inspect", "a.fpk", "--json").stdout)
    assert (report["flatpack"], report["version"], report["target"]) == ("chat", "0.1.0", "pi5")
    assert report["signature"]["trusted"] is True and report["signature"]["key"] == key.public.key_id
    assert [entry["path"] for entry in report["entries"]] == ["a.txt", "m.gguf", "sbom.cdx.json"]
    assert report["models"][0]["quantisation"] == "F16"
    assert failure("inspect", "missing.fpk").message == "there is no such box"
    assert "a folder" in failure("inspect", here).message and "*.fpk" in failure("inspect", here).hint


def test_what_a_stranger_wrote_does_not_reach_the_terminal(here: Path, key: KeyPair) -> None:
    (here / "evil").mkdir()
    (here / "evil" / "\x1b]0;title\x07.txt").write_text("x")
    subprocess.run("tar -c evil | zstd -q -o payload", shell=True, cwd=here, check=True)
    run("sign", "payload", "-o", "a.fpk", "--key", key.private_file)
    output = run("inspect", "a.fpk", code=1).output
    assert "\x1b" not in output and "\\x1b]0;title" in output
    text = [
        make_box(here, key.private, [PayloadEntry("a", line)], name=f"{line[-1]}.fpk") for line in (b"1", b"\x1b[2J2")
    ]
    output = run("diff", *text).output
    assert "\x1b" not in output and "+\\x1b[2J2" in output


def test_diff(here: Path, key: KeyPair) -> None:
    one = make_box(here, key.private, [PayloadEntry("a", b"1\n"), PayloadEntry("b", b"x")], name="one.fpk")
    two = make_box(here, key.private, [PayloadEntry("a", b"2\n"), PayloadEntry("c", b"xy")], name="two.fpk")
    result = run("diff", one, two)
    assert result.stdout.splitlines() == [
        "- b  1 bytes", "+ c  2 bytes", "! a  2 bytes", "    --- a/a", "    +++ b/a", "    @@ -1 +1 @@", "    -1", "    +2",
    ]  # fmt: skip
    assert "one.fpk is NOT TRUSTED" in result.stderr
    assert run("diff", one, one, "--exit-code").stdout == "the contents are the same\n"
    run("diff", one, two, "--exit-code", code=1)
    report = json.loads(run("diff", one, two, "--json").stdout)
    assert report["same"] is False and len(report["not_trusted"]) == 2
    assert report["changed"][0]["text"].endswith("-1\n+2")


@pytest.mark.parametrize("command", ["sign", "verify", "inspect", "diff", "trust"])
def test_help_has_an_example(command: str) -> None:
    assert f"  flatpack {command} " in run(command, "--help").output


@pytest.mark.parametrize("hash", ["sha256", "sha512"])
def test_a_box_that_is_exchanged_while_the_passphrase_is_typed_is_not_signed(
    here: Path, key: KeyPair, secret_key: Path, hash: str
) -> None:
    run("trust", "add", key.public_file, "--development")
    boxes: dict[int, Path] = {}  # by their sizes, since another size would be noticed by itself
    for seed in range(100):
        entry = PayloadEntry("weights.bin", random.Random(seed).randbytes(5000))
        box = make_box(here, key.private, [entry], name=f"{seed}.fpk")
        other = boxes.setdefault(box.stat().st_size, box)
        if other is not box:
            break
    os.rename(box, "good.fpk")
    os.mkfifo(here / "passphrase")
    command = [sys.executable, "-m", "flatpack_build", "sign", "good.fpk", "-o", "out.fpk", "--hash", hash,
               "--key", str(secret_key), "--passphrase-file", "passphrase"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        with open(here / "passphrase", "w") as answer:  # waits until the passphrase is asked for
            os.replace(other, "good.fpk")
            answer.write("secret\n")
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 1 and "changed after it was verified" in said
    assert not (here / "out.fpk").exists()


def test_a_payload_cannot_say_where_its_box_goes(here: Path, key: KeyPair) -> None:
    (here / "inner").mkdir()
    os.chdir(here / "inner")
    for version, target in (("/../../evil", "any"), ("1", "../../../evil"), ("1", "x" * 300)):
        with open("payload", "wb") as file:
            write_payload(ENTRIES, file, flatpack="chat", version=version, target=target)
        assert "-o" in failure("sign", "payload", "--key", key.private_file).hint
        assert (sorted(os.listdir()), sorted(os.listdir(here))) == (["payload"], ["inner"])
        run("sign", "payload", "-o", "mine.fpk", "--key", key.private_file)
        os.unlink("mine.fpk")


@pytest.mark.parametrize("text", ['version = "/../../evil"', 'version = "1"\n[environment]\nmodel_name = "sub/evil"'])
def test_a_folder_cannot_say_where_its_box_goes(here: Path, key: KeyPair, text: str) -> None:
    (here / "folder").mkdir()
    (here / "folder" / "flatpack.toml").write_text(text + "\n")
    failure("sign", "folder", "--key", key.private_file)
    assert os.listdir(here) == ["folder"]
