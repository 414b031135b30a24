from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flatpack_build.errors import ManifestError, Place, PlanError
from flatpack_build.manifest.profile import Profile
from flatpack_build.resources import builtin_folder
from flatpack_build.targets import host_profile, load_profile, load_profiles, profile_names

BUILTIN = builtin_folder("targets")
GOOD = 'architecture = "aarch64"\nos = "linux"\nglibc = "2.31"\npython = "3.11"\ngguf_quants = ["Q8_0"]\n'  # 5 lines


def write(folder: Path, name: str, text: str = GOOD) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.toml"
    file.write_text(text)
    return file


def test_the_built_in_profiles() -> None:
    profiles = load_profiles([BUILTIN])
    assert set(profiles) == {"laptop", "laptop-apple", "pi4", "pi5", "jetson-orin-nano", "jetson-agx-orin"}
    for name, profile in profiles.items():
        assert profile.name == name
        assert profile.description
        assert set(profile.onnx_quants) == {"int8", "int4"}
        assert profile.gguf_quants[0] == "Q8_0"
    assert "dotprod" in profiles["pi5"].cpu_features
    assert "dotprod" not in profiles["pi4"].cpu_features
    assert profiles["pi5"].model_memory == 6_500_000_000
    assert profiles["laptop"].model_memory == 0
    assert (profiles["jetson-orin-nano"].device, profiles["jetson-orin-nano"].compute_capability) == ("cuda", "8.7")
    assert (profiles["laptop-apple"].device, profiles["laptop-apple"].service_manager) == ("mps", "launchd")


def test_four_bits_on_a_pi_4_means_iq4_nl_first() -> None:
    four = [quant for quant in load_profile("pi4", [BUILTIN]).gguf_quants if "4" in quant]
    assert four[0] == "IQ4_NL"
    assert next(quant for quant in load_profile("pi5", [BUILTIN]).gguf_quants if "4" in quant) == "Q4_K_M"


@pytest.mark.parametrize(
    ("name", "platform", "inside", "outside"),
    [
        ("pi5", "aarch64-manylinux_2_36", "manylinux_2_28_aarch64", "manylinux_2_37_aarch64"),
        ("jetson-orin-nano", "aarch64-manylinux_2_35", "manylinux_2_35_aarch64", "manylinux_2_36_aarch64"),
        ("laptop", "x86_64-manylinux_2_36", "manylinux1_x86_64", "manylinux_2_36_aarch64"),
        ("laptop-apple", "aarch64-apple-darwin", "macosx_13_0_arm64", "linux_arm64"),
    ],
)
def test_wheel_names_follow_from_the_system(name: str, platform: str, inside: str, outside: str) -> None:
    profile = load_profile(name, [BUILTIN])
    assert profile.wheel_platform == platform
    assert inside in profile.wheel_tags
    assert outside not in profile.wheel_tags
    assert len(set(profile.wheel_tags)) == len(profile.wheel_tags)


def test_tags_stand_newest_first_and_stop_where_wheels_began() -> None:
    tags = Profile.model_validate(
        {"name": "x", "architecture": "aarch64", "os": "linux", "glibc": "2.18", "python": "3.11"}
        | {"gguf_quants": ["Q8_0"]}
    ).wheel_tags
    assert tags == ("manylinux_2_18_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64")


def test_a_glibc_that_there_cannot_be_takes_no_memory(tmp_path: Path) -> None:
    text = (builtin_folder("targets") / "pi5.toml").read_text()
    (tmp_path / "odd.toml").write_text(text.replace('glibc = "2.36"', 'glibc = "2.99999999999"'))
    assert "99999999999" in (tmp_path / "odd.toml").read_text()
    assert load_profile("odd", [tmp_path]).wheel_tags == ("linux_aarch64",)


def test_a_glibc_newer_than_uv_knows_takes_the_newest_that_it_knows() -> None:
    profile = load_profile("pi5", [BUILTIN])
    trixie = Profile.model_validate(
        profile.model_dump(exclude={"wheel_platform", "wheel_tags"}) | {"glibc": "2.41", "python": "3.13"}
    )
    assert trixie.wheel_platform == "aarch64-manylinux_2_40"
    assert trixie.wheel_tags[0] == "manylinux_2_41_aarch64"


def test_uv_knows_the_platforms() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "uv", "help", "pip", "compile"], capture_output=True, text=True, check=True
    ).stdout
    for profile in load_profiles([BUILTIN]).values():
        assert f"- {profile.wheel_platform}:" in answer


def test_wheel_names_can_be_given(tmp_path: Path) -> None:
    write(tmp_path, "x", f'{GOOD}wheel_platform = "linux"\nwheel_tags = ["linux_aarch64"]\n')
    profile = load_profile("x", [tmp_path])
    assert (profile.wheel_platform, profile.wheel_tags) == ("linux", ("linux_aarch64",))


def test_a_later_folder_wins(tmp_path: Path) -> None:
    write(tmp_path, "pi5", f'{GOOD}description = "mine"\n')
    write(tmp_path, "rack", GOOD)
    folders = [BUILTIN, tmp_path, tmp_path / "missing"]
    assert load_profile("pi5", folders).description == "mine"
    profiles = load_profiles(folders)
    assert profiles["pi5"].description == "mine"
    assert profiles["pi4"] == load_profile("pi4", [BUILTIN])
    assert "rack" in profiles


def test_only_the_one_file_is_read(tmp_path: Path) -> None:
    write(tmp_path, "good")
    write(tmp_path, "bad", "not toml")
    load_profile("good", [tmp_path])
    with pytest.raises(ManifestError):
        load_profiles([tmp_path])


def test_an_unknown_target() -> None:
    with pytest.raises(PlanError, match="no target 'pi55'; did you mean 'pi5'") as caught:
        load_profile("pi55", [BUILTIN])
    assert "jetson-agx-orin" in caught.value.hint
    assert "host" in caught.value.hint


@pytest.mark.parametrize("name", ["../targets/pi5", "", ".", "a\0b", "/etc/passwd"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(PlanError):
        load_profile(name, [BUILTIN])


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("cpu_feature = []", 1, "unknown key 'cpu_feature'; did you mean 'cpu_features'?"),
        ("cores = '4'", 9, 'expected a whole number, got the text "4"; for example: cores = 4'),
        ("onnx_quants = ['int9']", 16, "did you mean 'int8'?"),
        ("onnx_quants = []", 15, "expected at least one entry"),
        ("memory_mb = 1\nmodel_memory_mb = 2", 19, "more than the memory_mb of 1"),
        ("device = 'cuda'", 10, "device is 'cuda', but accelerator 'none'"),
        ("accelerator = 'cuda'\ncompute_capability = 8.7", 22, "expected a text, got the number 8.7"),
        ("name = 'y'", 8, "the profile is called 'y', but its file x.toml"),
        ("wheel_tags = 3", 14, "expected a list"),
    ],
)
def test_a_profile_that_is_not_valid(tmp_path: Path, line: str, column: int, message: str) -> None:
    file = write(tmp_path, "x", GOOD + line)
    with pytest.raises(ManifestError) as caught:
        load_profile("x", [tmp_path])
    assert caught.value.place == Place(str(file), 6 + line.count("\n"), column)
    assert message in caught.value.message


def test_a_version_in_a_wrong_form(tmp_path: Path) -> None:
    file = write(tmp_path, "x", GOOD.replace('"2.31"', '"two"'))
    with pytest.raises(ManifestError, match=r'got the text "two"; for example: glibc = "2\.36"') as caught:
        load_profile("x", [tmp_path])
    assert caught.value.place == Place(str(file), 3, 9)


def test_host_is_this_machine() -> None:
    profile = load_profile("host", [BUILTIN])
    assert profile == host_profile()
    assert profile.name == "host"
    assert profile.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert profile.cores >= 1
    assert 0 < profile.model_memory_mb < profile.memory_mb
    assert profile.os == ("macos" if sys.platform == "darwin" else "linux")


def test_nobody_else_is_called_host(tmp_path: Path) -> None:
    file = write(tmp_path, "host")
    with pytest.raises(ManifestError, match="means the machine one is on") as caught:
        load_profile("host", [tmp_path])
    assert caught.value.place == Place(str(file))
    with pytest.raises(ManifestError):
        load_profiles([tmp_path])


def test_names_are_listed_without_reading(tmp_path: Path) -> None:
    write(tmp_path, "bad", "not toml")
    assert profile_names([tmp_path, tmp_path / "missing"]) == ["bad"]
