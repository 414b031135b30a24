"""The box's tree: every input in its place, conflicts named, and what a box needs made where it is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flatpack_build import events
from flatpack_build.errors import StepError
from flatpack_build.fs import walk_files
from flatpack_build.params import AssembleParams, DeviceParams
from flatpack_build.steps import device
from flatpack_build.steps.assemble import run
from tests.heard import Heard

GENERATED = {"build.sh*", "custom.sh*", "index.html"}
DESCRIPTION = 'Knows <b>its</b> "own" manual & more'


class Bench:
    """Input trees that are written as path -> text, and a fresh ``out`` for each run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.inputs: dict[str, Path] = {}
        self.notes: list[str] = []
        self.tree("own", {})

    def tree(self, name: str, files: dict[str, str]) -> Path:
        """A path that ends with ``*`` is executable, with ``/`` an empty folder."""
        root = self.folder / "inputs" / name
        root.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            target = root / path.rstrip("*")
            if path.endswith("/"):
                target.mkdir(parents=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            target.chmod(0o755 if path.endswith("*") else 0o644)
        self.inputs[name] = root
        return root

    def run(self, *directories: str, title: str = "", **places: str) -> dict[str, str]:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        listener = Heard()
        params = AssembleParams("field-manual", title, DESCRIPTION, places, directories)
        with events.listening(listener):
            run(params, self.inputs, self.out)
        self.notes = listener.notes
        found = {}
        for path, entry in walk_files(self.out):
            assert not entry.is_symlink()
            if path.endswith("/"):
                found[path] = ""
            else:
                found[path + "*" * bool(entry.stat().st_mode & 0o100)] = Path(entry.path).read_text(errors="replace")
        return found

    def fail(self, *directories: str, **places: str) -> StepError:
        with pytest.raises(StepError) as caught:
            self.run(*directories, **places)
        assert caught.value.hint
        return caught.value


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_everything_has_its_place(bench: Bench) -> None:
    bench.tree("own", {"README.md": "read", "scripts/go.sh*": "go", "empty/": ""})
    bench.tree("wheels", {"a-1-py3-none-any.whl": "wheel"})
    bench.tree("git", {"repo.py": "code", "deep/x*": "x"})
    bench.tree("page", {"site/a.html": "page"})
    found = bench.run("models", "/home/content/data/raw", wheels="wheels", git="/home/content/vendor/repo", page="")
    generated = {path: found.pop(path) for path in GENERATED}
    assert found == {
        "README.md": "read",
        "scripts/go.sh*": "go",
        "empty/": "",
        "wheels/a-1-py3-none-any.whl": "wheel",
        "vendor/repo/repo.py": "code",
        "vendor/repo/deep/x*": "x",
        "site/a.html": "page",
        "models/": "",
        "data/raw/": "",
    }
    assert all(generated.values())
    assert bench.notes == []


def test_a_single_file_has_a_path_of_its_own(bench: Bench) -> None:
    bench.inputs["words"] = bench.tree("w", {"words.txt": "words"}) / "words.txt"
    del bench.inputs["w"]
    assert bench.run(words="data/list.txt")["data/list.txt"] == "words"
    assert bench.run(words="")["words.txt"] == "words"


def test_inputs_are_not_touched(bench: Bench) -> None:
    own = bench.tree("own", {"a": "a", "b*": "b"})
    (own / "a").chmod(0o444)
    before = {path: (entry.stat().st_mode, entry.stat().st_mtime_ns) for path, entry in walk_files(own)}
    bench.run()
    assert {path: (entry.stat().st_mode, entry.stat().st_mtime_ns) for path, entry in walk_files(own)} == before


def test_own_files_win_over_generated_ones(bench: Bench) -> None:
    own = {"build.sh": "mine", "custom.sh*": "mine", "index.html": "mine", "device.sh": "mine"}
    bench.tree("own", own)
    bench.tree("device", {"device.sh*": "generated"})
    assert bench.run(device="") == own
    assert bench.notes == ["the flatpack's own device.sh is used, not the one generated for this hardware"]


def test_what_a_build_step_made_wins_over_own_and_generated_files(bench: Bench) -> None:
    bench.tree("own", {"run.sh": "run", "same": "same"})
    bench.tree("build x", {"run.sh*": "run", "index.html": "made", "same": "same"})
    found = bench.run()
    assert (found["run.sh*"], found["index.html"], found["same"]) == ("run", "made", "same")
    assert bench.notes == ["run.sh: what build x made replaces the flatpack's own file"]


def test_two_inputs_on_one_path(bench: Bench) -> None:
    bench.tree("build a", {"site/index.html": "a", "site/b": "b"})
    bench.tree("git 0", {"index.html": "g", "b": "b"})
    error = bench.fail(**{"git 0": "site"})
    assert error.message == "site/index.html comes from both build a and git 0, and they differ"
    bench.tree("git 0", {"index.html": "a"})
    assert bench.run(**{"git 0": "site"})["site/index.html"] == "a"
    bench.tree("git 0", {"index.html*": "a"})
    assert "site/index.html" in bench.fail(**{"git 0": "site"}).message


def test_a_file_here_and_a_folder_there(bench: Bench) -> None:
    bench.tree("own", {"data": "file"})
    bench.tree("build a", {"data/x/y": "y"})
    assert bench.fail().message == "data is a file in own and a folder in build a"
    del bench.inputs["build a"]
    assert bench.fail("data").message == "data is a file in own and a folder in [directories]"
    assert bench.fail("data/deep").message == "data is a file in own and a folder in [directories]"
    bench.tree("own", {"build.sh.d/x": ""})
    (bench.inputs["own"] / "data").unlink()
    (bench.inputs["own"] / "index.html").mkdir()
    assert "could not be put together" in bench.fail().message


@pytest.mark.parametrize("place", ["../x", "/etc", "a/../../b", "/home/contents/x", "/home/content/../x"])
def test_places_outside_the_flatpack(bench: Bench, place: str) -> None:
    assert "not inside the flatpack's folder" in bench.fail(place).message
    bench.tree("git", {"a": "a"})
    assert "the place of git" in bench.fail(git=place).message


@pytest.mark.parametrize("spelling", [".", "", "/home/content", "/home/content/", "./"])
def test_the_flatpacks_own_folder(bench: Bench, spelling: str) -> None:
    bench.tree("git", {"a": "a"})
    assert set(bench.run(spelling, git=spelling)) == {"a", *GENERATED}


def test_a_folder_that_is_there_already(bench: Bench) -> None:
    bench.tree("own", {"models/a": "a"})
    assert set(bench.run("models", "models/")) == {"models/a", *GENERATED}


def test_the_same_again_gives_the_same(bench: Bench) -> None:
    bench.tree("own", {"z": "z", "a/b": "b"})
    assert bench.run("models") == bench.run("models")
    assert str(bench.folder) not in "".join(bench.run("models").values())


# --- what is generated


def test_scripts_are_clean(bench: Bench) -> None:
    bench.run()
    assert shutil.which("shellcheck"), "shellcheck is needed for this test: install the package of that name"
    scripts = [bench.out / "build.sh", bench.out / "custom.sh"]
    done = subprocess.run(["shellcheck", "--norc", "--severity=style", *scripts], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def wheel(path: Path, name: str, requires: str = "") -> None:
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"WORD = '{name} is installed'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_build_script_sets_a_device_up_without_network(bench: Bench) -> None:
    """The generated scripts together, run for real: environment made, wheels installed from the box, custom.sh last."""
    wheels = bench.tree("wheels", {})
    wheel(wheels, "fieldbox", "Requires-Dist: fieldlib\n")
    wheel(wheels, "fieldlib")
    bench.tree("own", {"custom.sh": '"$VENV_PYTHON" -c "import fieldbox, fieldlib; print(fieldbox.WORD)"; pwd\n'})
    params = DeviceParams("field-manual", "cpu", "", 1, 0, "none", "")
    device.run(params, {}, bench.tree("device", {}))
    bench.run(wheels="wheels", device="")
    environment = {"PATH": os.environ["PATH"], "HOME": str(bench.folder), "PIP_CONFIG_FILE": "/dev/null"}
    (bench.folder / "elsewhere").mkdir()
    for _ in range(2):
        done = subprocess.run(
            ["bash", bench.out / "build.sh"],
            cwd=bench.folder / "elsewhere",
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        first, word, where = done.stdout.splitlines()
        assert re.fullmatch(r"field-manual: \w+, cpu, 1 threads", first)
        assert word == "fieldbox is installed"
        assert os.path.realpath(where) == os.path.realpath(bench.out)
    assert os.listdir(bench.folder / "elsewhere") == []


def test_build_script_without_wheels_and_stopping_at_a_failure(bench: Bench) -> None:
    bench.tree("own", {"device.sh": f"OS=x DEVICE=cpu FLATPACK_THREADS=1 VENV_PYTHON={sys.executable}\n"})
    bench.run()
    command: list[str | Path] = ["bash", bench.out / "build.sh"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "field-manual: x, cpu, 1 threads\n"
    (bench.out / "custom.sh").write_text("false\necho went on\n")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "went on" not in done.stdout


class Page(HTMLParser):
    """What is looked at of a page: its elements, and the text of the interesting ones."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.texts[self._open] = self.texts.get(self._open, "") + data
        if not data.strip():
            self._open = self._open if self._open in {"script", "style"} else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_page_shows_what_it_is_for(bench: Bench) -> None:
    page = Page(bench.run(title="Field <manual>")["index.html"])
    assert page.texts["title"].strip() == "Field <manual>"
    assert page.texts["h1"].strip() == "Field <manual>"
    assert DESCRIPTION in page.texts["p"]
    assert page.all("b") == []
    assert Page(bench.run()["index.html"]).texts["h1"].strip() == "field-manual"


def test_page_takes_nothing_from_elsewhere(bench: Bench) -> None:
    text = bench.run()["index.html"]
    page = Page(text)
    for _tag, attributes in page.elements:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:")
    assert "@import" not in text
    assert "url(" not in text
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    script = page.texts["script"]
    assert re.findall(r'fetch\("([^"]*)"', script) == ["/generate-response/"]
    assert "JSON.stringify({ context:" in script
    assert "innerHTML" not in script


def test_page_can_be_used_by_everyone(bench: Bench) -> None:
    text = bench.run()["index.html"]
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert any(meta.get("name") == "viewport" and "maximum-scale" not in str(meta) for meta in page.all("meta"))
    labelled = {label["for"] for label in page.all("label")}
    assert {field["id"] for field in page.all("textarea") + page.all("input")} == labelled
    assert any(attributes.get("aria-live") == "polite" for _tag, attributes in page.elements)
    for landmark in ("header", "main", "footer", "h1", "noscript"):
        assert len(page.all(landmark)) == 1
    for query in ("prefers-color-scheme: dark", "prefers-reduced-motion: reduce", ":focus-visible"):
        assert query in text


@pytest.mark.parametrize("block", [0, 1])
def test_page_colours_can_be_read(bench: Bench, block: int) -> None:
    """Text on its background: a contrast of at least 4.5 to 1 (WCAG AA), in the light and in the dark."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    declared = re.findall(r":root \{([^}]*)\}", bench.run()["index.html"])[block]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", declared))
    for text, ground in (
        ("ink", "page"), ("ink", "card"), ("ink", "asked"), ("quiet", "page"), ("quiet", "card"), ("bad", "card"),
        ("on-accent", "accent"),
    ):  # fmt: skip
        darker, brighter = sorted((light(colours[text]), light(colours[ground])))
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)
