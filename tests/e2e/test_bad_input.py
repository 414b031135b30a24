"""What a user's mistakes get: a clear error with its place and a hint, a status that is not 0, and nothing lost."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import GREETING, WORDS, Project
from tests.gguf_files import gguf


@pytest.fixture
def small(project: Project) -> Project:
    project.write("small", GREETING, WORDS)
    return project


def refused(project: Project, *parts: str, task: str = "build:small", status: int | None = None) -> str:
    """Build, expect a refusal that says all ``parts``; what it said."""
    done = project.doit(task, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == (status or done.returncode) != 0, said
    for part in parts:
        assert part in said, said
    return said


def test_a_small_flatpack_builds_and_rebuilds(small: Project) -> None:
    assert len(small.built("build:small")) == 6
    assert sorted(small.boxes) == ["laptop", "pi5"]
    assert small.built("build:small") == []


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("targets =", "tragets =", ["flatpack.toml:2:1", "'tragets'", "did you mean 'targets'"]),
        ('version = "0.1.0"', "version = 1", ["flatpack.toml:1:", "expected a text", 'version = "0.1.0"']),
        ('"pi5"', '"pi55"', ["flatpack.toml:2:", "pi55", "pi5"]),
        ("[environment]", "[environment", ["flatpack.toml:4:", "not valid TOML"]),
        ('["words.txt"]', '["wrods.txt"]', ["flatpack.toml:9:", "wrods.txt"]),
        ('model_name = "small"', 'model_name = "large"', ["flatpack.toml:5:", "large", "small"]),
    ],
)
def test_mistakes_in_the_manifest(small: Project, old: str, new: str, parts: list[str]) -> None:
    small.doit("build:small")
    boxes = {target: box.read_bytes() for target, box in small.boxes.items()}
    small.edit("warehouse/small/flatpack.toml", old, new)
    refused(small, *parts)
    assert {target: box.read_bytes() for target, box in small.boxes.items()} == boxes
    small.edit("warehouse/small/flatpack.toml", new, old)
    assert small.built("build:small") == []


def test_a_cycle_of_build_steps(small: Project) -> None:
    small.edit("warehouse/small/flatpack.toml", '["words.txt"]', '["words.txt", "end.txt"]')
    text = '\n[build.end]\ncommand = "cp greeting.txt end.txt"\ninputs = ["greeting.txt"]\noutputs = ["end.txt"]\n'
    small.edit("warehouse/small/flatpack.toml", 'outputs = ["greeting.txt"]\n', f'outputs = ["greeting.txt"]\n{text}')
    refused(small, "flatpack.toml:", "greeting", "end")


def test_two_flatpacks_of_one_name(small: Project) -> None:
    small.write("other", GREETING, WORDS)
    said = small.doit("list", check=False)
    assert said.returncode != 0
    assert "other/flatpack.toml:5:" in said.stderr
    assert "small" in said.stderr
    refused(small, "other/flatpack.toml:5:", task="build:other")


def test_an_unknown_target(small: Project) -> None:
    small.edit("warehouse/small/flatpack.toml", '"pi5"', '"pi55"')
    place = "warehouse/small/flatpack.toml:"
    refused(small, place, "there is no target 'pi55'; did you mean 'pi5'?")
    (small.root / "warehouse/small/flatpack.lock").unlink(missing_ok=True)
    refused(small, place, "there is no target 'pi55'; did you mean 'pi5'?")


def test_an_unknown_flatpack_and_an_unknown_task(small: Project) -> None:
    refused(small, "smal", "small", task="build:smal")
    refused(small, "small is not built for 'pi4'", "its targets: laptop, pi5", task="build:small@pi4")


def test_a_build_step_that_fails_shows_its_own_words(small: Project) -> None:
    small.edit(
        "warehouse/small/flatpack.toml", "tr a-z A-Z < words.txt > greeting.txt", "echo broken pipe dream; exit 3"
    )
    said = refused(small, "'greeting'", "exit status 3", "| broken pipe dream", status=1)
    assert "run:small/greeting" in said
    small.edit(
        "warehouse/small/flatpack.toml", "echo broken pipe dream; exit 3", "tr a-z A-Z < words.txt > greeting.txt"
    )
    small.doit("build:small")


def test_a_build_step_that_writes_beside_its_outputs(small: Project) -> None:
    small.edit("warehouse/small/flatpack.toml", "> greeting.txt", "> greeting.txt; echo x > stray.txt")
    refused(small, "stray.txt", "outputs")


def test_a_build_step_that_does_not_make_its_output(small: Project) -> None:
    small.edit("warehouse/small/flatpack.toml", "> greeting.txt", "> /dev/null")
    refused(small, "greeting.txt", "did not make")


def test_no_key_to_sign_with_is_said_before_the_work(small: Project) -> None:
    (small.root / "keys/development.pem").unlink()
    said = refused(small, "keys/development.pem", "flatpack keygen --development")
    assert "built" not in said


# --- models


def model(project: Project, source: str, more: str = "") -> None:
    project.write("small", f'{GREETING}\n[model]\nsource = "{source}"\nquant = "Q8_0"\n{more}')


def test_a_source_that_does_not_exist(small: Project) -> None:
    model(small, "file:weights/absent.gguf")
    refused(small, "flatpack.toml:13:", "weights/absent.gguf")
    assert not (small.root / "warehouse/small/flatpack.lock").exists()


def test_a_gguf_that_is_no_gguf(small: Project) -> None:
    (small.root / "warehouse/small/model.gguf").write_bytes(b"GIF89a" + bytes(1000))
    model(small, "file:model.gguf")
    refused(small, "model.gguf", "GGUF")


def test_a_lock_that_does_not_match(small: Project) -> None:
    small.doit("build:small")
    model(small, "https://127.0.0.1:1/model.gguf")
    refused(small, "flatpack.lock", "https://127.0.0.1:1/model.gguf", "flatpack lock")


class _Handler(http.server.BaseHTTPRequestHandler):
    body = b""
    promised = 0
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(self.promised or len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def serving(body: bytes, *, promised: int = 0, status: int = 200) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"body": body, "promised": promised, "status": status})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_page_that_is_not_there(small: Project) -> None:
    with serving(b"no", status=404) as url:
        model(small, f"{url}/model.gguf")
        refused(small, "flatpack.toml:13:", "404")


def test_a_digest_that_does_not_match(small: Project) -> None:
    with serving(b"other bytes") as url:
        small.write("small", f'{GREETING}\n[[file]]\nfrom_source = "{url}/words.bin"\nto_destination = "words.bin"\n')
        small.flatpack("lock", "small")
        lock = small.root / "warehouse/small/flatpack.lock"
        small.cache.rename(small.cache.with_name("cache-before"))  # so that it has to be fetched again
    port = int(url.rpartition(":")[2])

    class Tampered(_Handler):
        body = b"tampered at"

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Tampered)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert lock.exists()
        refused(small, "words.bin", "expected sha256")
        Tampered.body = b"and more than were locked"
        refused(small, "words.bin", "more than the 11 bytes came that were locked")
    finally:
        server.shutdown()
        server.server_close()


def test_a_pinned_digest_that_the_lock_contradicts(small: Project) -> None:
    (small.root / "warehouse/small/notes.onnx").write_bytes(b"\x08\x07" + bytes(40))
    small.write(
        "small",
        f'{GREETING}\n[model]\nsource = "file:notes.onnx"\nquant = "keep"\nsha256 = "{"0" * 64}"\n',
    )
    refused(small, "flatpack.toml:15:", "0000000")


def test_a_changed_file_source_is_not_built_from_unseen(small: Project) -> None:
    (small.root / "warehouse/small/notes.onnx").write_bytes(b"\x08\x07" + bytes(40))
    small.write("small", f'{GREETING}\n[model]\nsource = "file:notes.onnx"\nquant = "keep"\n')
    small.flatpack("lock", "small")
    (small.root / "warehouse/small/notes.onnx").write_bytes(b"\x08\x07" + bytes(41))
    refused(small, "notes.onnx", "flatpack lock")


@pytest.mark.parametrize(
    ("table", "place", "message"),
    [
        ('[[file]]\nto_destination = "it"\nfrom_source = "{url}"', "14:1", "and a file is one file"),
        ('[[dataset]]\nto_destination = "it"\nfrom_source = "{url}"', "14:1", "and a dataset is one file"),
        ('[model]\nsource = "{url}"', "13:1", "and a model is one file"),
        ('[model]\nsource = "file:tiny.gguf"\nsignature = "{url}"', "14:1", "and a signature is one file"),
    ],
)
def test_a_folder_is_no_file(small: Project, tmp_path: Path, table: str, place: str, message: str) -> None:
    bare = tmp_path / "bare"
    subprocess.run(["git", "init", "-q", bare], check=True)
    (bare / "one").write_text("1")
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["add", "."], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", bare, *command], check=True)
    (small.root / "warehouse/small/tiny.gguf").write_bytes(gguf())
    with open(small.root / "warehouse/small/flatpack.toml", "a") as manifest:
        manifest.write("\n" + table.format(url=f"git+file://{bare}@HEAD") + "\n")
    refused(
        small, f"flatpack.toml:{place}: the source gives a whole folder, {message}", "hint: take a source of one file"
    )


def test_a_name_that_is_no_text_is_refused(small: Project) -> None:
    file = os.fsencode(small.root / "warehouse/small") + b"/\xff.txt"
    try:
        with open(file, "wb"):
            pass
    except OSError:
        pytest.skip("this file system has no such names")
    refused(small, "small/\ufffd.txt has a name that is not UTF-8", "hint: give it another name")


def test_a_project_whose_path_is_no_text_is_refused(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    try:
        (root / "warehouse").mkdir(parents=True)
    except OSError:
        pytest.skip("this file system has no such names")
    said = Project(root, tmp_path / "cache").flatpack("list", check=False).stderr
    assert "/\ufffd, is not UTF-8\n  hint: give that folder another name" in said


def test_links_out_of_the_folder_are_refused(small: Project, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (small.root / "warehouse/small/link").symlink_to(tmp_path / "secret")
    refused(small, "link", "leads out")
