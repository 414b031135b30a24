"""What comes in from elsewhere, all the way into a box: signed models, repositories, files, wheels."""

from __future__ import annotations

import http.server
import io
import json
import subprocess
import tarfile
import threading
from pathlib import Path

import pygit2
import pytest
import zstandard

from tests.e2e.conftest import Project
from tests.gguf_files import gguf

HEAD = 'version = "0.1.0"\ntargets = ["pi5"]\n\n[environment]\nmodel_name = "small"\n'
SEPARATOR = b"---SIGNATURE_SEPARATOR---"


def write(project: Project, manifest: str) -> Path:
    return project.write("small", HEAD + manifest)


def contents(box: Path) -> dict[str, bytes]:
    data = zstandard.ZstdDecompressor().decompressobj().decompress(box.read_bytes().rpartition(SEPARATOR)[0])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = ((member.name.removeprefix("small/"), archive.extractfile(member)) for member in archive)
        return {name: file.read() for name, file in files if file is not None}


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


SIGNED = (
    '[model]\nsource = "model.gguf"\nsignature = "model.gguf.sig"\npublic_keys = ["vendor.pub.pem"]\nquant = "keep"\n'
)


def test_a_model_signed_with_openssl_is_built_and_a_forged_one_is_not(project: Project) -> None:
    folder = write(project, SIGNED)
    (folder / "model.gguf").write_bytes(gguf())
    openssl(
        "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "vendor.pem", folder=project.root
    )
    openssl("rsa", "-in", "vendor.pem", "-pubout", "-out", str(folder / "vendor.pub.pem"), folder=project.root)
    sign = ["dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max"]
    openssl(*sign, "-sign", str(project.root / "vendor.pem"), "-out", "model.gguf.sig", "model.gguf", folder=folder)
    assert "verify:small" in project.built("build:small")
    found = contents(project.boxes["pi5"])
    assert found["models/model.gguf"] == gguf()
    assert not {"model.gguf", "model.gguf.sig"} & set(found), "the box has its model once"

    openssl(
        "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "other.pem", folder=project.root
    )
    openssl("rsa", "-in", "other.pem", "-pubout", "-out", str(folder / "vendor.pub.pem"), folder=project.root)
    refused = project.doit("build:small", check=False)
    assert refused.returncode == 1
    assert "signature" in refused.stdout


def test_a_model_among_the_flatpacks_own_files_is_in_its_targets_box_only(project: Project) -> None:
    manifest = HEAD.replace('["pi5"]', '["laptop", "pi5"]')
    manifest += '[model]\nsource = "models/own.gguf"\nquant = "keep"\n'
    manifest += '[target.laptop.model]\nsource = "file:./other.gguf"\n'
    files: dict[str, str | bytes] = {
        "models/own.gguf": gguf(),
        "other.gguf": gguf() + b"other",
        "models/notes.txt": "notes",
    }
    project.write("small", manifest, files)
    project.doit("build:small")
    boxes = {target: contents(box) for target, box in project.boxes.items()}
    models = {target: {path for path in box if path.endswith(".gguf")} for target, box in boxes.items()}
    assert models == {"laptop": {"models/other.gguf"}, "pi5": {"models/own.gguf"}}
    assert all(box["models/notes.txt"] == b"notes" for box in boxes.values())


def test_a_repository_and_files_go_into_the_box(project: Project, tmp_path: Path) -> None:
    repository = pygit2.init_repository(str(tmp_path / "tools.git"))
    (tmp_path / "tools.git/tool.sh").write_text("echo tool\n")
    repository.index.add("tool.sh")
    author = pygit2.Signature("A", "a@example.org")
    repository.create_commit("refs/heads/main", author, author, "first", repository.index.write_tree(), [])
    repository.set_head("refs/heads/main")
    folder = write(
        project,
        f'[[git]]\nfrom_source = "file://{tmp_path}/tools.git"\nto_destination = "/home/content/tools"\nbranch = "main"\n'
        '[[file]]\nfrom_source = "words.txt"\nto_destination = "data/words.txt"\n'
        '[directories]\nlogs = "/home/content/logs"\n',
    )
    (folder / "words.txt").write_text("words\n")
    (folder / "words.txt").chmod(0o755)
    project.doit("build:small")
    found = contents(project.boxes["pi5"])
    modes = {file["path"]: file["mode"] for file in json.loads(found["payload.json"])["files"]}
    assert modes["data/words.txt"] == "0755"
    assert found["tools/tool.sh"] == b"echo tool\n"
    assert found["data/words.txt"] == b"words\n"
    (tmp_path / "tools.git/tool.sh").write_text("echo newer\n")
    repository.index.add("tool.sh")
    head = repository.head.target
    repository.create_commit("refs/heads/main", author, author, "second", repository.index.write_tree(), [head])
    assert project.built("build:small") == []  # the lock names the first commit
    project.flatpack("lock", "small")
    assert project.built("build:small") == ["assemble:small@pi5", "pack:small@pi5"]  # the lock fetched it already
    assert contents(project.boxes["pi5"])["tools/tool.sh"] == b"echo newer\n"


class _Short(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"only this")

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_download_that_is_always_cut_short_is_refused(project: Project) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Short)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/data.bin"
        write(project, f'[[file]]\nfrom_source = "{url}"\nto_destination = "data.bin"\n')
        refused = project.doit("build:small", check=False)
    finally:
        server.shutdown()
        server.server_close()
    assert refused.returncode != 0
    assert url in refused.stderr
    assert "1000" in refused.stderr or "cut" in refused.stderr
    assert not (project.root / "warehouse/small/flatpack.lock").exists()


@pytest.mark.network
def test_wheels_for_the_targets_machine_are_locked_and_packed(project: Project) -> None:
    write(project, '[packages.python]\nmarkupsafe = "3.0.2"\n')
    project.doit("build:small")
    (wheel,) = [name for name in contents(project.boxes["pi5"]) if name.startswith("wheels/")]
    assert "aarch64" in wheel
    assert "cp311" in wheel
    lock = (project.root / "warehouse/small/flatpack.lock").read_text()
    assert wheel.removeprefix("wheels/") in lock
    assert "://" not in lock
    project.edit("warehouse/small/flatpack.toml", "3.0.2", "3.0.1")
    refused = project.doit("build:small", check=False)
    assert refused.returncode != 0
    assert "flatpack lock" in refused.stderr
