"""What the documentation says is true: its examples are valid, its links lead somewhere, its commands work."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatpack_build.box.container import sign_payload
from flatpack_build.box.keys import generate_key, load_private_key
from flatpack_build.box.packing import PayloadEntry, write_payload
from flatpack_build.box.passphrase import Passphrase
from flatpack_build.box.signature import SignatureHash
from flatpack_build.manifest.load import parse_manifest
from flatpack_build.manifest.profile import Profile
from flatpack_build.project import read_settings
from flatpack_build.resources import builtin_folder

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> Iterator[str]:
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        yield match[1]


def examples() -> Iterator[object]:
    for page in PAGES:
        for number, text in enumerate(blocks(page, "toml"), 1):
            yield pytest.param(text, id=f"{page.name}-{number}")


@pytest.mark.parametrize("text", list(examples()))
def test_each_toml_example_is_valid(text: str, tmp_path: Path) -> None:
    if "[tool.flatpack-build]" in text:
        (tmp_path / "pyproject.toml").write_text(text)
        assert read_settings(tmp_path / "pyproject.toml") is not None
    elif re.search("^architecture = ", text, re.MULTILINE):
        Profile.model_validate({"name": "example", **tomllib.loads(text)})
    else:
        if not re.search("^version = ", text, re.MULTILINE):
            text = f'version = "0.1.0"\n{text}'
        if "[environment]" not in text:
            text += '\n[environment]\nmodel_name = "example"\n'
        parse_manifest(text, "flatpack.toml")


@pytest.mark.parametrize(
    ("schema", "page"), [("flatpack.schema.json", "manifest.md"), ("target.schema.json", "targets.md")]
)
def test_each_key_is_documented(schema: str, page: str) -> None:
    described = json.loads((builtin_folder("schemas") / schema).read_text())
    tables = [described, *described.get("$defs", {}).values()]
    keys = {key for table in tables for key in table.get("properties", {})}
    text = (ROOT / "docs" / page).read_text()
    assert len(keys) > 15
    assert sorted(key for key in keys if not re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", text)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


def test_each_make_target_that_is_named_exists() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name for page in PAGES for name in re.findall(r"(?:`|^|&& )make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"demo", "test"} <= named
    assert named <= known


@pytest.mark.parametrize(("bits", "hash"), [(4096, "sha256"), (2048, "sha256"), (2048, "sha384"), (2048, "sha512")])
def test_a_box_verifies_with_openssl_as_described(tmp_path: Path, bits: int, hash: str) -> None:
    key = generate_key(tmp_path / "key.pem", passphrase=None, development=True, bits=bits)
    with open(tmp_path / "payload", "wb") as file:
        write_payload([PayloadEntry("a b/c", b"c")], file, flatpack="chat", version="1", target="pi5")
    box = tmp_path / "a.fpk"
    sign_payload(tmp_path / "payload", box, load_private_key(key.private, Passphrase()), SignatureHash(hash))
    shell = list(blocks(ROOT / "docs/boxes.md", "sh"))
    (script,) = (text for text in shell if "openssl dgst" in text)
    (listing,) = (text for text in shell if "tar -t" in text)
    assert "hash=sha256\n" in script
    script = script.replace("hash=sha256\n", f"hash={hash}\n")

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script],
            cwd=tmp_path,
            env={"BOX": str(box), "KEY": str(key.public), "PATH": "/usr/local/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    good = run(script)
    assert (good.returncode, good.stdout) == (0, "Verified OK\n"), good.stderr
    assert run(listing).stdout.splitlines() == ["chat/", "chat/payload.json", "chat/a b/c"]
    assert "Verified OK" not in run(script.replace(hash, {"sha256": "sha512"}.get(hash, "sha256"))).stdout
    data = box.read_bytes()
    box.write_bytes(data[:5] + b"X" + data[6:])
    bad = run(script)
    assert bad.returncode != 0
    assert "Verified OK" not in bad.stdout
