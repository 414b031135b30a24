from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flatpack_build.box.keys import is_development, load_private_key, load_public_key
from flatpack_build.box.passphrase import Passphrase
from flatpack_build.cli.keys import keygen
from flatpack_build.errors import KeyFileError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLATPACK_PASSPHRASE", raising=False)
    return tmp_path


def test_a_signing_key_from_a_passphrase_file(here: Path) -> None:
    (here / "secret").write_text("correct horse\n")
    result = CliRunner().invoke(keygen, ["--passphrase-file", "secret"])
    assert result.exit_code == 0, result.output
    public = load_public_key(here / "keys" / "signing.pub.pem")
    assert public.key_id in result.output
    assert public.rsa.key_size == 4096
    private = here / "keys" / "signing.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert load_private_key(private, Passphrase(file=here / "secret")).key_id == public.key_id
    check: list[str | Path] = ["openssl", "pkey", "-in", private, "-passin", "file:secret", "-noout", "-check"]
    subprocess.run(check, check=True, capture_output=True)
    again = CliRunner().invoke(keygen, ["--passphrase-file", "secret"])
    assert isinstance(again.exception, KeyFileError)
    assert "never overwritten" in again.exception.message


def test_a_development_key_needs_no_passphrase(here: Path) -> None:
    result = CliRunner().invoke(keygen, ["--development"])
    assert result.exit_code == 0, result.output
    assert is_development(here / "keys" / "development.pem")
    assert is_development(here / "keys" / "development.pub.pem")


def test_from_a_file_descriptor_or_the_environment(here: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe\n")
    os.close(writing)
    result = CliRunner().invoke(keygen, ["a.pem", "--passphrase-fd", str(reading)])
    os.close(reading)
    assert result.exit_code == 0, result.output
    load_private_key(here / "a.pem", Passphrase(environment={"FLATPACK_PASSPHRASE": "from a pipe"}))
    result = CliRunner().invoke(keygen, ["b.pem"], env={"FLATPACK_PASSPHRASE": "from environment"})
    assert result.exit_code == 0, result.output
    load_private_key(here / "b.pem", Passphrase(environment={"FLATPACK_PASSPHRASE": "from environment"}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nobody to ask"),
        (["--passphrase-file", "missing"], "cannot be read"),
        (["--passphrase-file", "a", "--passphrase-fd", "3"], "not from both"),
    ],
)
def test_without_a_passphrase_nothing_is_made(here: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(keygen, arguments)
    assert isinstance(result.exception, KeyFileError)
    assert message in result.exception.message
    assert list(here.iterdir()) == []


def test_a_passphrase_for_a_development_key_is_a_mistake(here: Path) -> None:
    assert CliRunner().invoke(keygen, ["--development", "--passphrase-fd", "0"]).exit_code == 2


def test_no_option_takes_the_passphrase_itself() -> None:
    assert CliRunner().invoke(keygen, ["--passphrase", "x"]).exit_code == 2


def test_help_has_an_example() -> None:
    output = CliRunner().invoke(keygen, ["--help"]).output
    assert "flatpack keygen --development" in output
    assert "FLATPACK_PASSPHRASE" in output


def test_with_standard_input_closed_nobody_is_asked(here: Path) -> None:
    """As some services start programs."""
    command = [sys.executable, "-m", "flatpack_build", "keygen", "a.pem"]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert "nobody to ask" in done.stderr and "Traceback" not in done.stderr


def test_what_is_left_to_do_for_builds_to_sign_with_it(here: Path) -> None:
    outside = CliRunner().invoke(keygen, ["--development", "a.pem"])
    assert "next" not in outside.output
    (here / "warehouse").mkdir()
    assert "next" not in CliRunner().invoke(keygen, ["--development"]).output
    other = CliRunner().invoke(keygen, ["--development", "keys/other.pem"])
    assert 'signing_key = "keys/other.pem"' in other.output
    models = CliRunner().invoke(keygen, ["--development", "--ec"])
    assert 'model_signing_key = "keys/model-signing.pem"' in models.output
