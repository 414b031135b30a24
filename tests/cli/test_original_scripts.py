"""The original's scripts under their own names, run as programs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import zstandard

from flatpack_build.box.checked import verify_contents
from flatpack_build.box.keys import load_private_key, load_public_key
from flatpack_build.box.passphrase import Passphrase
from tests.box.original import original_box, original_folder, original_payload, original_verify

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys made by openssl's commands as the original's documentation gives them, only smaller."""
    folder = tmp_path_factory.mktemp("keys")
    make = "openssl genpkey -algorithm RSA -aes256 -pkeyopt rsa_keygen_bits:2048 -pass pass:secret -out private_key.pem"
    public = "openssl rsa -in private_key.pem -passin pass:secret -pubout -out public_key.pem"
    for command in (make, public):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    (folder / "private_key.pem").chmod(0o600)
    return folder


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    folder = tmp_path / "warehouse"
    for name in ("one", "two", "template"):
        original_folder(folder, name)
    return folder


def run(
    name: str, *arguments: str | Path, cwd: Path, code: int = 0, passphrase: str | None = "secret"
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    if passphrase is not None:
        environment["FLATPACK_PASSPHRASE"] = passphrase
    done = subprocess.run(
        [sys.executable, SCRIPTS / f"{name}.py", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("hash_size", ["256", "512"])
def test_a_whole_warehouse(warehouse: Path, keys: Path, hash_size: str) -> None:
    root = warehouse.parent
    (warehouse / "one.fpk").write_text("an older box")
    (warehouse / "one" / "old.fpk").write_text("not to be packed")
    signing: list[str | Path] = ["-p", keys / "private_key.pem", "--hash_size", hash_size]
    done = run("bulk_compress_and_sign_fpk", *signing, cwd=root)
    assert done.stdout.splitlines() == [
        "one: warehouse/one.fpk", "two: warehouse/two.fpk", "2 signed, 0 failed, 2 in all",
    ]  # fmt: skip
    (warehouse / "one" / "old.fpk").unlink()
    public = load_public_key(keys / "public_key.pem")
    for name in ("one", "two"):
        box = warehouse / f"{name}.fpk"
        assert verify_contents(box, [public]).hash.value == f"sha{hash_size}"
        payload = original_verify(box.read_bytes(), public.rsa, f"sha{hash_size}")
        with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompress(payload))) as archive:
            names = archive.getnames()
        assert names[0] == name and f"{name}/build.sh" in names and f"{name}/old.fpk" not in names
    done = run("bulk_verify_signed_data_with_cli", "--public_key", keys / "public_key.pem", cwd=root)
    assert done.stdout.splitlines() == [
        "warehouse/one.fpk: verified", "warehouse/two.fpk: verified", "2 verified, 0 failed, 2 in all",
    ]  # fmt: skip


def test_one_that_fails_does_not_stop_the_others(warehouse: Path, keys: Path) -> None:
    root = warehouse.parent
    (warehouse / "one" / "link").symlink_to("build.sh")
    done = run("bulk_compress_and_sign_fpk", "-p", keys / "private_key.pem", cwd=root, code=1)
    assert "one: failed: warehouse/one: 'link' is not a plain file" in done.stderr
    assert done.stdout.splitlines()[-1] == "1 signed, 1 failed, 2 in all"
    (warehouse / "one.fpk").write_bytes((warehouse / "two.fpk").read_bytes()[:-1] + b"x")
    done = run("bulk_verify_signed_data_with_cli", "--public_key", keys / "public_key.pem", cwd=root, code=1)
    assert done.stdout.splitlines()[0].startswith("warehouse/one.fpk: FAILED: ")
    assert done.stdout.splitlines()[-1] == "1 verified, 1 failed, 2 in all"


def test_boxes_of_the_original_verify_in_bulk(warehouse: Path, keys: Path) -> None:
    private = load_private_key(keys / "private_key.pem", Passphrase(environment={"FLATPACK_PASSPHRASE": "secret"}))
    for name, hash in (("one", "sha256"), ("two", "sha384")):
        (warehouse / name / f"{name}.fpk").write_bytes(
            original_box(original_payload(warehouse / name), private.rsa, hash)
        )
    public: list[str | Path] = ["--public_key", keys / "public_key.pem"]
    done = run("bulk_verify_signed_data_with_cli", *public, cwd=warehouse.parent)
    assert done.stdout.splitlines()[-1] == "2 verified, 0 failed, 2 in all"


def test_the_passphrase_as_an_argument_works_with_a_warning(warehouse: Path, keys: Path) -> None:
    arguments: list[str | Path] = ["-p", keys / "private_key.pem", "--passphrase", "secret"]
    done = run("bulk_compress_and_sign_fpk", *arguments, cwd=warehouse.parent, passphrase=None)
    assert "process list" in done.stderr and "FLATPACK_PASSPHRASE" in done.stderr
    arguments[-1] = "wrong"
    done = run("bulk_compress_and_sign_fpk", *arguments, cwd=warehouse.parent, code=1)
    assert "does not unlock" in done.stderr


def test_one_folder_and_one_file(tmp_path: Path, keys: Path) -> None:
    original_folder(tmp_path)
    (tmp_path / "a.bin").write_bytes(bytes(5000))
    key: list[str | Path] = ["-p", keys / "private_key.pem"]
    run("compress_and_sign_fpk", "-i", "chat", "-o", "chat.fpk", *key, "--hash_size", "384", cwd=tmp_path)
    run("compress_and_sign_fpk", "--input", "a.bin", "-o", "payload", "-s", "a.fpk", *key, cwd=tmp_path)
    public = load_public_key(keys / "public_key.pem")
    assert original_verify((tmp_path / "chat.fpk").read_bytes(), public.rsa, "sha384")
    payload = original_verify((tmp_path / "a.fpk").read_bytes(), public.rsa)
    assert payload == (tmp_path / "payload").read_bytes()
    assert zstandard.ZstdDecompressor().decompress(payload) == bytes(5000)
    for box in ("chat.fpk", "a.fpk"):
        done = run("verify_signed_data_with_cli", "-s", box, "--public_key", keys / "public_key.pem", cwd=tmp_path)
        assert done.stdout == f"{box}: verified\n"
    arguments: list[str | Path] = ["-i", "payload", "--public_key", keys / "public_key.pem"]
    done = run("verify_signed_data_with_cli", *arguments, cwd=tmp_path, code=1)
    assert "no signature" in done.stdout


def test_outside_a_warehouse(tmp_path: Path, keys: Path) -> None:
    done = run("bulk_compress_and_sign_fpk", "-p", keys / "private_key.pem", cwd=tmp_path, code=2)
    assert "not inside a flatpack project" in done.stderr


def test_each_script_is_installed_under_its_own_name() -> None:
    scripts = tomllib.loads((SCRIPTS.parent / "pyproject.toml").read_text())["project"]["scripts"]
    assert {name for name in scripts if name.endswith(".py")} == {path.name for path in SCRIPTS.glob("*.py")}
