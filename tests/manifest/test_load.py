from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from flatpack_build.errors import ManifestError, Place
from flatpack_build.manifest.load import check_name, load_manifest, parse_manifest

DATA = Path(__file__).parent / "data"
BARE = 'version = "1"\nenvironment.model_name = "a"\n'  # two lines


def error_of(text: str) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, "flatpack.toml")
    return caught.value


@pytest.mark.parametrize("file", sorted(DATA.glob("*.toml")), ids=lambda path: str(path.stem))
def test_flatpacks_of_every_age_are_valid(file: Path) -> None:
    manifest = load_manifest(file)
    assert manifest.name == file.stem


def test_old_keys_arrive() -> None:
    manifest = load_manifest(DATA / "newer.toml")
    assert manifest.environment.python_version == "3.12"
    assert manifest.git[0].setup_commands == ("cmake -B build", "cmake --build build")
    assert manifest.git[0].requirements_file == "requirements.txt"
    assert manifest.packages.unix == {"build-essential": "*"}
    assert (manifest.run[0].command, manifest.run[0].args, manifest.run[0].file) == ("chmod +x", None, "build.sh")
    oldest = load_manifest(DATA / "oldest.toml")
    assert [port.internal for port in oldest.port] == [80, 7860]
    assert oldest.script[0].working_directory == "/home/content"
    assert oldest.base_image == "ubuntu:22.04"
    assert oldest.build_targets == ("host",)


def test_new_keys_arrive() -> None:
    manifest = load_manifest(DATA / "full.toml")
    assert manifest.model is not None
    assert manifest.model.sha256 == "0123456789abcdef" * 4
    assert manifest.model.file_format == "gguf"
    assert manifest.docs is not None
    assert manifest.docs.files == ("README.md", "manual/*.pdf")
    assert manifest.build["words"].command == "python3 'make words.py'"
    assert manifest.build_dependencies() == {"words": (), "index": ("words",)}


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("docs.files = 3", 14, "expected a list, got the whole number 3; for example: files = ["),
        ("docs = 3", 8, "expected a table, got the whole number 3; for example:\n    [docs]\n    files = ["),
        ("[port]", 1, "expected a list of tables, got a table; for example:\n    [[port]]\n    external = 8000"),
        ("targets = ['a', 1.5]", 17, "expected a text, got the number 1.5; for example: targets = ["),
        ("targets = ['a', 'a']", 17, "the target 'a' is named twice"),
        ("targets = ['a b']", 12, "expected a name of letters"),
        ("packages.python = {numpy = 1}", 28, 'expected a text, got the whole number 1; for example: numpy = "1.26.4"'),
        ("agent.port = '80'", 14, 'expected a whole number, got the text "80"; for example: port = 8000'),
        ("agent.port = true", 14, "expected a whole number, got true"),
        ("agent.port = 70000", 14, "expected at most 65535, got the whole number 70000"),
        ("agent.port = 0", 14, "expected at least 1, got the whole number 0"),
        ("agent.script = '/etc/passwd'", 16, "expected a path relative to the flatpack's folder"),
        ("agent.script = 'a/../../b'", 16, "expected a path that stays inside"),
        ("quality.max_perplexity = inf", 26, "expected a finite number"),
        ("model.source = ''", 16, "expected a text that is not empty, got an empty text"),
        ("model.source = 'htps://x'", 16, "did you mean https:"),
        ("model = {source='m', quant='q4_k_m'}", 28, "; did you mean 'Q4_K_M'?"),
        ("model = {source='m', sha256='12'}", 29, "expected a sha256: 64 hexadecimal characters"),
        ("model = {source='m.gguf', quant='int8'}", 33, "int8 is for ONNX models"),
        ("model = {source='m.onnx', quant='Q8_0'}", 33, "Q8_0 is for GGUF models"),
        ("model = {source='m', public_keys=['k']}", 34, "no signature"),
        ("build.x = {command='x'}", 7, "missing key 'outputs' in [build.x]; for example: outputs = ["),
        ("build.x = {command=[], outputs=['a']}", 20, "expected a text, or a list with the program"),
        ("build.x = {command='x', outputs=[]}", 33, "expected at least one entry, got an empty list"),
        ("build.'a/b' = {command='x', outputs=['a']}", 7, "expected a name of letters"),
        ("[[file]]\n", 3, "missing key 'from_source' in [[file]]"),
        ("license = 2024-01-01", 11, "expected a text, got the date or time 2024-01-01"),
        ("modle.source = 'x'", 1, "unknown table 'modle'; did you mean 'model'?"),
        ("model = {source='m', quants='auto'}", 22, "unknown key 'quants' in [model]; did you mean 'quant'?"),
        ("docs = {file='x'}", 9, "unknown key 'file' in [docs]; did you mean 'files'?"),
        ("environment.gpu = 'x'", 13, "unknown key 'gpu' in [environment]"),
    ],
)
def test_each_mistake_has_its_place_and_its_words(line: str, column: int, message: str) -> None:
    error = error_of(BARE + line)
    assert error.place == Place("flatpack.toml", 3, column)
    assert message in error.message


def test_what_is_missing() -> None:
    error = error_of("")
    assert error.place == Place("flatpack.toml", 1, 1)
    assert "missing key 'version'; for example: version = \"0.1.0\"" in error.message
    assert "missing [environment]; for example:\n    [environment]\n    model_name = " in error.message


def test_a_misspelt_key_is_not_missing_as_well() -> None:
    error = error_of('versoin = "1"\n[environment]\nmodel_name = "a"\n')
    assert error.message == "unknown key 'versoin'; did you mean 'version'?"


def test_a_key_in_the_wrong_table_is_sent_home() -> None:
    assert "belongs in [environment]" in error_of('model_name = "a"\nversion = "1"\nenvironment = {}').hint
    assert "'targets' stands at the top of the file" in error_of(f"{BARE}[agent]\ntargets = []").hint


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    error = error_of('version = 3\n[environment]\nmodel_name = "a"\n[model]\nquant = "best"\ncontext = "long"\n')
    assert error.place == Place("flatpack.toml", 1, 11)
    first, count, *others = error.message.splitlines()
    assert first == 'expected a text, got the whole number 3; for example: version = "0.1.0"'
    assert count == "  and 3 more:"
    assert [line.split(" ")[2] for line in others] == [
        "flatpack.toml:4:2:",
        "flatpack.toml:5:9:",
        "flatpack.toml:6:11:",
    ]


def test_an_error_survives_pickling() -> None:
    error = error_of("version = 3")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)


def test_an_override_is_merged_table_by_table() -> None:
    manifest = load_manifest(DATA / "full.toml")
    pi = manifest.for_target("pi5")
    assert pi.targets == ("pi5",)
    assert pi.target == {}
    assert pi.model is not None
    assert (pi.model.quant, pi.model.context) == ("Q4_0", 2048)
    assert pi.packages.python == {"numpy": ">=1.26,<3", "lgpio": "*"}
    jetson = manifest.for_target("jetson-orin-nano")
    assert jetson.quality is not None
    assert (jetson.quality.max_kl_divergence, jetson.quality.max_perplexity) == (0.5, 18)
    laptop = manifest.for_target("laptop")
    assert laptop.model == manifest.model
    assert laptop.packages.python == {"numpy": ">=1.26,<3"}


def test_an_override_replaces_lists() -> None:
    manifest = parse_manifest(
        f"{BARE}targets = ['p', 'q']\ndocs.files = ['a', 'b']\ntarget.p.docs.files = 'c'\n", "flatpack.toml"
    )
    docs = manifest.for_target("p").docs
    assert docs is not None
    assert docs.files == ("c",)


def test_an_override_can_return_to_a_default() -> None:
    manifest = parse_manifest(
        f"{BARE}targets = ['p']\nmodel = {{source = 'm', quant = 'Q4_0'}}\ntarget.p.model.quant = 'auto'\n", "f"
    )
    model = manifest.for_target("p").model
    assert model is not None
    assert model.quant == "auto"


OVERRIDE = f"{BARE}targets = ['pi5']\nmodel = {{source = 'm.gguf', format = 'gguf'}}\n[target.pi5]\n"  # five lines


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("model.quant = 'Q4_00'", 15, "; did you mean 'Q4_0'?"),
        ("model.quants = 'Q4_0'", 7, "unknown key 'quants' in [target.pi5.model]"),
        ("model.quant = 'int4'", 15, "int4 is for ONNX models"),
        ("model.sha256 = 1", 16, "expected a text"),
        ("docs.chunk_sentences = 3", 1, "missing key 'files' in [target.pi5.docs]"),
        ("version = '2'", 1, "'version' cannot differ between targets"),
        ("build.x.command = 'x'", 7, "missing key 'outputs' in [target.pi5.build.x]"),
    ],
)
def test_mistakes_in_an_override_point_into_it(line: str, column: int, message: str) -> None:
    error = error_of(OVERRIDE + line)
    assert error.place == Place("flatpack.toml", 6, column)
    assert message in error.message


@pytest.mark.parametrize("targets", ["", "targets = ['laptop']\n"])
def test_an_override_for_a_target_that_is_not_built_is_refused(targets: str) -> None:
    error = error_of(f"{BARE}{targets}[target.pi5]\ndescription = 'x'\n")
    assert error.place is not None
    assert error.place.line == 3 + bool(targets)
    assert "[target.pi5] is for a target that is not built" in error.message
    assert 'add "pi5" to targets' in error.hint


def test_the_host_can_have_an_override() -> None:
    manifest = parse_manifest(f"{BARE}[target.host]\ndescription = 'here'\n", "f")
    assert manifest.for_target("host").description == "here"


def test_build_steps_that_wait_for_each_other_are_refused() -> None:
    error = error_of(
        f"{BARE}[build.a]\ncommand = 'x'\ninputs = ['out/b']\noutputs = ['a']\n"
        "[build.b]\ncommand = 'x'\ninputs = ['a']\noutputs = ['out']\n"
    )
    assert error.message == "build steps wait for each other: a needs b needs a"
    assert error.place == Place("flatpack.toml", 5, 10)


def test_two_build_steps_cannot_make_one_file() -> None:
    error = error_of(
        f"{BARE}[build.a]\ncommand = 'x'\noutputs = ['o/a']\n[build.b]\ncommand = 'x'\noutputs = ['b', './o//a']\n"
    )
    assert error.message == "'o/a' is an output of build step 'a' too"
    assert error.place == Place("flatpack.toml", 8, 17)


def test_the_folder_must_be_called_like_the_flatpack(tmp_path: Path) -> None:
    file = tmp_path / "chat" / "flatpack.toml"
    file.parent.mkdir()
    file.write_text('version = "1"\n\n[environment]\nmodel_name = "chat"\n')
    check_name(load_manifest(file), file)
    file.write_text('version = "1"\n\n[environment]\nmodel_name = "chatt"\n')
    with pytest.raises(ManifestError, match="called 'chatt', but its folder 'chat'") as caught:
        check_name(load_manifest(file), file)
    assert caught.value.place == Place(str(file), 4, 14)


def test_the_folder_of_a_relative_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "chat"
    folder.mkdir()
    (folder / "flatpack.toml").write_text(BARE.replace('"a"', '"chat"'))
    monkeypatch.chdir(folder)
    check_name(load_manifest(Path("flatpack.toml")), Path("flatpack.toml"))


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no such flatpack\.toml"):
        load_manifest(tmp_path / "flatpack.toml")


@pytest.mark.parametrize("quote", ['"', ""])
def test_a_password_in_a_source_is_not_repeated(quote: str) -> None:
    """Not even where the value, or the line that is no TOML, is shown."""
    error = error_of(BARE + f"model.source = {quote}https://me:hunter2@pass@example.org/m.gguf{quote}\n")
    assert "example.org" in str(error)
    assert not {"hunter2", "pass"} & set(str(error).replace("@", " ").replace(":", " ").replace("/", " ").split())
