"""``device.sh``: sourced by old build scripts, run alone, on machines that are made up around it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flatpack_build.params import DeviceParams
from flatpack_build.sandbox import bubblewrap_problem
from flatpack_build.steps.device import run

HERE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
ELSEWHERE = "aarch64" if HERE == "x86_64" else "x86_64"
PARAMS = DeviceParams(
    flatpack="field-manual",
    device="cpu",
    architecture=HERE,
    threads=1,
    memory_mb=64,
    service_manager="systemd",
    python="3.11",
)
SHELLS = [shell for shell in ("bash", "dash") if shutil.which(shell)]

# As those build scripts go that flatpacks have had for years: strict, and sure of what device.sh gives them.
OLD_BUILD = """\
#!/bin/bash
set -euo pipefail
SCRIPT_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly FLATPACK_NAME="old pack"
readonly DEFAULT_REPO_NAME="some-repo"
readonly REQUIRED_DEVICES="cuda cpu mps"
source "$SCRIPT_DIR/device.sh"
[[ " $REQUIRED_DEVICES " == *" $DEVICE "* ]] || { echo "needs one of $REQUIRED_DEVICES"; exit 3; }
cd "$WORK_DIR"
echo "OS=$OS"
echo "DEVICE=$DEVICE"
echo "PWD=$(pwd)"
echo "PREFIX=$("$VENV_PYTHON" -c 'import sys; print(sys.prefix)')"
echo "PIP=$VENV_PIP"
bash -c 'echo "EXPORTED=$DEVICE $OS $WORK_DIR $VENV_PYTHON"'
"""


def generate(folder: Path, **changes: str | int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    run(replace(PARAMS, **changes), {}, folder)  # type: ignore[arg-type]
    return folder / "device.sh"


def execute(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLATPACK_", "DEVICE"))}
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=60)


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def program(folder: Path, name: str, script: str) -> str:
    """A program called ``name``; returns a PATH on which it comes first."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def venv(tmp_path: Path) -> str:
    """Where FLATPACK_VENV points, so that not every test makes an environment: the one that runs the tests."""
    return sys.prefix


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("architecture", ["x86_64", "arm64", ""])
def test_shellcheck_finds_nothing(tmp_path: Path, device: str, architecture: str) -> None:
    script = generate(tmp_path, device=device, architecture=architecture, threads=0, memory_mb=0)
    assert shutil.which("shellcheck"), "shellcheck is needed for this test: install the package of that name"
    # As a POSIX script: what that allows, bash 3.2 (macOS) understands.
    for dialect in ("sh", "bash"):
        done = execute("shellcheck", "--norc", "--severity=style", f"--shell={dialect}", script)
        assert (done.returncode, done.stdout) == (0, "")


def test_same_parameters_same_bytes(tmp_path: Path) -> None:
    first, second = generate(tmp_path / "a"), generate(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert os.access(first, os.X_OK)
    assert generate(tmp_path / "c", threads=2).read_bytes() != first.read_bytes()
    assert str(tmp_path) not in first.read_text()


@pytest.mark.parametrize("name", ["DEFAULT_REPO_NAME", "REPO_NAME"])
def test_old_build_script(tmp_path: Path, venv: str, name: str) -> None:
    folder = tmp_path / "it's a pack"
    generate(folder)
    (folder / "build.sh").write_text(OLD_BUILD.replace("DEFAULT_REPO_NAME", name))
    done = execute("bash", folder / "build.sh", FLATPACK_VENV=venv)
    found = facts(done)
    assert found["DEVICE"] == "cpu"
    assert found["OS"] in {"Linux", "Ubuntu", "macOS", "Colab"}
    assert os.path.realpath(found["PWD"]) == os.path.realpath(folder / "some-repo")
    assert (found["PREFIX"], found["PIP"]) == (venv, f"{venv}/bin/pip")
    assert found["EXPORTED"] == f"cpu {found['OS']} {folder / 'some-repo'} {venv}/bin/python"
    assert done.stderr == ""


def test_old_build_script_that_demands_another_device(tmp_path: Path, venv: str) -> None:
    generate(tmp_path, device="mps" if sys.platform != "darwin" else "cuda")
    (tmp_path / "build.sh").write_text(OLD_BUILD.replace("cuda cpu mps", "cuda"))
    done = execute("bash", tmp_path / "build.sh", FLATPACK_VENV=venv)
    assert (done.returncode, done.stdout) == (3, "needs one of cuda\n")
    assert "using the CPU" in done.stderr


def test_makes_a_python_environment_once(tmp_path: Path) -> None:
    generate(tmp_path / "box", python="")
    build = tmp_path / "box" / "build.sh"
    build.write_text(OLD_BUILD.replace('echo "OS=$OS"', '"$VENV_PIP" --version >/dev/null; echo "OS=$OS"'))
    first = execute("bash", build)
    assert os.path.realpath(facts(first)["PREFIX"]) == os.path.realpath(tmp_path / "box" / ".venv")
    assert "making a Python environment in" in first.stderr
    second = execute("bash", build)
    assert facts(second) == facts(first)
    assert second.stderr == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_python_environment_that_cannot_be_made(tmp_path: Path, shell: str) -> None:
    path = program(tmp_path / "bin", "python3.11", 'case "$*" in *venv*) exit 1;; *) echo Python 3.11.2;; esac')
    generate(tmp_path / "box")
    source = f"SCRIPT_DIR={tmp_path}/box; . {tmp_path}/box/device.sh"
    done = execute(shell, "-c", f"{source} || echo status $?", PATH=path)
    assert (done.returncode, done.stdout) == (0, "status 1\n")
    assert "sudo apt install python3-venv" in done.stderr
    assert execute(shell, "-ec", f"{source}; echo went on", PATH=path).stdout == ""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("strictness", ["-e", "-eu"])
def test_run_alone_prints_the_facts_and_makes_nothing(tmp_path: Path, shell: str, strictness: str) -> None:
    generate(tmp_path)
    found = facts(execute(shell, strictness, tmp_path / "device.sh"))
    assert set(found) == {
        "OS", "DEVICE", "VENV_PYTHON", "VENV_PIP", "WORK_DIR", "FLATPACK_NAME", "FLATPACK_ARCHITECTURE",
        "FLATPACK_THREADS", "FLATPACK_MEMORY_MB", "FLATPACK_SERVICE_MANAGER", "FLATPACK_PYTHON",
    }  # fmt: skip
    assert found["FLATPACK_ARCHITECTURE"] == HERE
    assert found["FLATPACK_NAME"] == "field-manual"
    assert (found["FLATPACK_THREADS"], found["FLATPACK_MEMORY_MB"], found["FLATPACK_PYTHON"]) == ("1", "64", "3.11")
    assert found["WORK_DIR"] == str(tmp_path)
    assert found["FLATPACK_SERVICE_MANAGER"] == ("systemd" if Path("/run/systemd/system").is_dir() else "none")
    assert os.listdir(tmp_path) == ["device.sh"]


def test_values_are_quoted(tmp_path: Path) -> None:
    odd = "a'b\"c $(touch pwned) `touch pwned` \\ ; touch pwned"
    generate(tmp_path, flatpack=odd)
    found = facts(execute("bash", "-c", f"cd {tmp_path} && sh device.sh"))
    assert found["FLATPACK_NAME"] == odd
    assert os.listdir(tmp_path) == ["device.sh"]


def test_leaves_no_names_of_its_own(tmp_path: Path, venv: str) -> None:
    generate(tmp_path)
    done = execute(
        "bash",
        "-euc",
        f"SCRIPT_DIR={tmp_path}; . {tmp_path}/device.sh; set | grep '^_flatpack_.*=' || true",
        FLATPACK_VENV=venv,
    )
    assert (done.returncode, done.stdout) == (0, "")


# --- another architecture


def test_another_architecture_is_refused(tmp_path: Path, venv: str) -> None:
    generate(tmp_path, architecture=ELSEWHERE)
    alone = execute("sh", tmp_path / "device.sh")
    assert (alone.returncode, alone.stdout) == (1, "")
    assert f"was built for {ELSEWHERE}, and this machine is {HERE}" in alone.stderr
    assert "FLATPACK_ANY_DEVICE=1" in alone.stderr
    source = f"SCRIPT_DIR={tmp_path}; source {tmp_path}/device.sh || echo refused $?; echo still here"
    assert execute("bash", "-euo", "pipefail", "-c", source).stdout == "refused 1\nstill here\n"
    (tmp_path / "build.sh").write_text(OLD_BUILD)
    assert execute("bash", tmp_path / "build.sh").returncode == 1
    assert not (tmp_path / ".venv").exists()

    forced = execute("bash", tmp_path / "build.sh", FLATPACK_ANY_DEVICE="1", FLATPACK_VENV=venv)
    assert facts(forced)["DEVICE"] == "cpu"
    assert "going on" in forced.stderr


@pytest.mark.parametrize(
    ("built_for", "machine", "bits", "fits"),
    [
        ("arm64", "aarch64", "64", True),
        ("aarch64", "arm64", "64", True),
        ("x86_64", "amd64", "64", True),
        ("", "riscv64", "64", True),
        ("aarch64", "armv7l", "32", False),
        ("aarch64", "aarch64", "32", False),  # Raspberry Pi OS: 32-bit programs under a 64-bit kernel
    ],
)
def test_names_of_architectures(tmp_path: Path, built_for: str, machine: str, bits: str, fits: bool) -> None:
    generate(tmp_path / "box", architecture=built_for)
    path = program(tmp_path / "bin", "uname", f'[ "$1" = -m ] && echo {machine} || echo Linux')
    program(tmp_path / "bin", "getconf", f'[ "$1" = LONG_BIT ] && echo {bits} || echo 4')
    done = execute("sh", tmp_path / "box" / "device.sh", PATH=path)
    assert (done.returncode == 0) == fits
    if not fits:
        assert "this machine is armv7l" in done.stderr


# --- other machines


def mac(folder: Path, machine: str) -> str:
    program(folder, "uname", f'[ "$1" = -m ] && echo {machine} || echo Darwin')
    program(folder, "getconf", '[ "$1" = LONG_BIT ] && echo 64 || exit 1')
    program(folder, "awk", "exit 2")  # there is no /proc/meminfo
    return program(folder, "sysctl", 'case "$2" in hw.ncpu) echo 8;; hw.memsize) echo 17179869184;; esac')


def test_macos(tmp_path: Path) -> None:
    generate(
        tmp_path / "box", device="mps", architecture="arm64", threads=0, memory_mb=20_000, service_manager="launchd"
    )
    done = execute("sh", "-eu", tmp_path / "box" / "device.sh", PATH=mac(tmp_path / "bin", "arm64"))
    found = facts(done)
    assert (found["OS"], found["DEVICE"], found["FLATPACK_THREADS"]) == ("macOS", "mps", "8")
    assert found["FLATPACK_SERVICE_MANAGER"] == "launchd"
    assert "planned for 20000 MB, and this machine has 16384 MB" in done.stderr


def test_a_mac_without_apple_silicon(tmp_path: Path) -> None:
    generate(tmp_path / "box", device="mps", architecture="")
    done = execute("sh", tmp_path / "box" / "device.sh", PATH=mac(tmp_path / "bin", "x86_64"))
    assert facts(done)["DEVICE"] == "cpu"
    assert "no Apple graphics processor" in done.stderr


def test_cuda_through_nvidia_smi(tmp_path: Path) -> None:
    generate(tmp_path / "box", device="cuda")
    path = program(tmp_path / "bin", "nvidia-smi", "echo 'GPU 0: Orin (nvgpu)'")
    assert facts(execute("sh", tmp_path / "box" / "device.sh", PATH=path))["DEVICE"] == "cuda"
    program(tmp_path / "bin", "nvidia-smi", "echo 'could not communicate with the NVIDIA driver'; exit 9")
    done = execute("sh", tmp_path / "box" / "device.sh", PATH=path)
    if not Path("/etc/nv_tegra_release").exists():
        assert facts(done)["DEVICE"] == "cpu"
        assert "no CUDA device here" in done.stderr


def test_what_the_user_says_wins(tmp_path: Path) -> None:
    script = generate(tmp_path)
    found = facts(execute("sh", script, FLATPACK_THREADS="3", FLATPACK_MEMORY_MB="99", FLATPACK_VENV="/x y"))
    assert (found["FLATPACK_THREADS"], found["FLATPACK_MEMORY_MB"]) == ("3", "99")
    assert found["VENV_PYTHON"] == "/x y/bin/python"
    done = execute("sh", script, FLATPACK_THREADS="many", FLATPACK_MEMORY_MB="-1", FLATPACK_DEVICE="tpu")
    found = facts(done)
    assert (found["FLATPACK_THREADS"], found["FLATPACK_MEMORY_MB"], found["DEVICE"]) == ("1", "64", "cpu")
    assert re.findall("'(.*?)'", done.stderr) == ["tpu", "many", "-1"]


def test_threads_are_not_more_than_cores(tmp_path: Path) -> None:
    script = generate(tmp_path / "box", threads=64)
    path = program(tmp_path / "bin", "getconf", '[ "$1" = LONG_BIT ] && echo 64 || echo 4')
    assert facts(execute("sh", script, PATH=path))["FLATPACK_THREADS"] == "4"
    script = generate(tmp_path / "box", threads=0)
    assert facts(execute("sh", script, PATH=path))["FLATPACK_THREADS"] == "4"


@pytest.mark.skipif(bool(bubblewrap_problem()), reason="bubblewrap makes up the other machine's files")
class TestOtherRoots:
    """Machines that are told by their files: the script runs in a root made of this machine's programs and those files."""

    def facts(self, folder: Path, *arguments: str | Path, device: str = "cuda") -> dict[str, str]:
        generate(folder / "box", device=device)
        links: list[str | Path] = []
        for name in ("bin", "lib", "lib64"):
            links += ["--ro-bind", f"/{name}", f"/{name}"] if Path("/", name).exists() else []
        root = ["bwrap", "--ro-bind", "/usr", "/usr", *links, "--dev", "/dev", "--proc", "/proc"]
        return facts(execute(*root, "--ro-bind", folder / "box", "/box", *arguments, "sh", "-eu", "/box/device.sh"))

    def file(self, folder: Path, text: str) -> Path:
        (folder / "file").write_text(text)
        return folder / "file"

    def test_colab(self, tmp_path: Path) -> None:
        found = self.facts(tmp_path, "--dir", "/content")
        assert found["OS"] == "Colab"
        assert Path(found["VENV_PYTHON"]).name.startswith("python3")
        assert "/box" not in found["VENV_PYTHON"] + found["VENV_PIP"]

    @pytest.mark.parametrize(
        ("line", "name"), [("ID=ubuntu", "Ubuntu"), ('ID="ubuntu"', "Ubuntu"), ("ID=debian", "Linux")]
    )
    def test_distribution(self, tmp_path: Path, line: str, name: str) -> None:
        release = self.file(tmp_path, f"NAME=x\n{line}\nID_LIKE=ubuntu\n")
        found = self.facts(tmp_path, "--ro-bind", release, "/etc/os-release")
        assert (found["OS"], found["DEVICE"]) == (name, "cpu")

    @pytest.mark.parametrize("node", ["/etc/nv_tegra_release", "/dev/nvhost-gpu", "/dev/nvhost-ctrl"])
    def test_jetson(self, tmp_path: Path, node: str) -> None:
        assert self.facts(tmp_path, "--ro-bind", self.file(tmp_path, ""), node)["DEVICE"] == "cuda"
        assert self.facts(tmp_path, "--ro-bind", self.file(tmp_path, ""), node, device="cpu")["DEVICE"] == "cpu"

    def test_systemd(self, tmp_path: Path) -> None:
        assert self.facts(tmp_path)["FLATPACK_SERVICE_MANAGER"] == "none"
        assert self.facts(tmp_path, "--dir", "/run/systemd/system")["FLATPACK_SERVICE_MANAGER"] == "systemd"
