#!/bin/sh
# Makes .venv: everything that flatpack-build needs, in the versions of requirements/lock.txt, and flatpack-build itself.
# Called by make. Finds out by itself what is done already, so a second call costs nothing.
#
# Two packages come as source only and are built here once, into .wheels/, so that they run on every machine of this
# architecture. Their own defaults tune them for the CPU at hand: llama.cpp then crashes on virtual machines that
# advertise AMX. pip's cache would hand out such a build again whatever settings are asked for, so it is kept out of it:
# pip caches what it builds from an archive, not what it builds from a folder.
#
# PYTHON      the Python to use, 3.11 or newer (default: the first that fits of python3, python3.13, ...)
# CMAKE_ARGS  more settings for llama.cpp, such as -DGGML_CUDA=ON
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
lock=requirements/lock.txt
build_lock=requirements/build.txt
venv=.venv
stamp=$venv/set-up
python=$venv/bin/python
started=$(date +%s)

say() { printf 'setup: %s\n' "$*"; }

fail() {
  printf 'setup: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

runs() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# What the set-up is made from. The folder is part of it: a venv does not survive being moved.
ingredients() {
  printf '%s\n' "$root" "${CMAKE_ARGS:-}"
  cat pyproject.toml "$lock" "$build_lock" tools/setup.sh tools/llama-lean.cmake
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    runs "$PYTHON" || fail "$PYTHON is not Python 3.11 or newer, or does not run." \
      "Name another one: make setup PYTHON=/path/to/python3.12"
    printf '%s\n' "$PYTHON"
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
    if runs "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  found=$(python3 --version 2>/dev/null) || found="no python3"
  fail "Python 3.11 or newer is needed; there is $found here." \
    "Debian, Ubuntu: sudo apt-get install python3 python3-venv python3-dev" \
    "macOS: brew install python@3.13" \
    "Or name one: make setup PYTHON=/path/to/python3.12"
}

make_venv() {
  base=$(find_python) || exit 1
  "$base" -c 'import ensurepip, venv' >/dev/null 2>&1 || fail "$base cannot make virtual environments." \
    "Debian, Ubuntu: sudo apt-get install python3-venv"
  say "making $venv with $("$base" --version 2>&1)"
  "$base" -m venv --clear "$venv"
}

pip() { "$python" -m pip --disable-pip-version-check --no-input "$@"; }

# The lock's own lines for one package: version and hashes.
pin() { awk -v want="$1==" '/^[A-Za-z0-9]/ { on = index($0, want) == 1 } on && !/^ *#/' "$lock"; }

pinned_version() { pin "$1" | sed -n '1s/^[^=]*==\([^ ;]*\).*/\1/p'; }

check_compiler() {
  command -v "${CXX:-c++}" >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1 ||
    fail "a C++ compiler is needed to build $1." \
      "Debian, Ubuntu: sudo apt-get install g++" "macOS: xcode-select --install"
}

check_headers() {
  "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
    fail "Python's header files are needed to build $1." "Debian, Ubuntu: sudo apt-get install python3-dev"
}

# build_wheel NAME RECIPE HOW-LONG: a wheel of NAME in .wheels/NAME, re-used while RECIPE stays the same.
build_wheel() {
  name=$1
  recipe="$name $(pinned_version "$name") $2"
  folder=.wheels/$name
  if [ -f "$folder/recipe" ] && [ "$(cat "$folder/recipe")" = "$recipe" ]; then
    return
  fi
  check_compiler "$name"
  rm -rf "$folder"
  mkdir -p "$folder/source" "$folder/build"
  say "building $name $(pinned_version "$name") portably: $3, once (log: $folder/log)"
  if ! compile_wheel >"$folder/log" 2>&1; then
    tail -n 30 "$folder/log" | cut -c 1-200 >&2
    fail "$name could not be built. The whole log: $root/$folder/log"
  fi
  rm -rf "$folder/source" "$folder/build" "$folder"/*.tar.gz
  printf '%s\n' "$recipe" >"$folder/recipe"
}

# A fixed place for source and build, relative to which ccache finds most of the work of another clone again.
compile_wheel() {
  pin "$name" >"$folder/requirement.txt" &&
    pip download --no-deps --no-binary "$name" --require-hashes --build-constraint "$build_lock" \
      --dest "$folder" --requirement "$folder/requirement.txt" &&
    tar -xzf "$folder"/*.tar.gz -C "$folder/source" --strip-components 1 &&
    pip wheel --no-deps --build-constraint "$build_lock" --wheel-dir "$folder" "$root/$folder/source"
}

# By name from its folder, not by path: a path would be recorded as where the package came from.
install_wheel() {
  pip install -qq --no-deps --no-index --find-links ".wheels/$1" --force-reinstall "$1==$(pinned_version "$1")"
}

want=$(ingredients | cksum)
if runs "$python" && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want $root" ]; then
  touch "$stamp"
  exit 0
fi
case "$(cat "$stamp" 2>/dev/null)" in
*" $root") runs "$python" || make_venv ;;
*) make_venv ;;
esac
rm -f "$stamp"
mkdir -p .wheels

pin pip >.wheels/pip.txt
pip install -qq --require-hashes --requirement .wheels/pip.txt

export CCACHE_BASEDIR="$root/.wheels" CCACHE_NOHASHDIR=1
export HNSWLIB_NO_NATIVE=1
portable="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF ${CMAKE_ARGS:-}"
export SKBUILD_BUILD_DIR="$root/.wheels/llama-cpp-python/build"
export CMAKE_ARGS="-DCMAKE_PROJECT_llama_cpp_INCLUDE='$root/tools/llama-lean.cmake' $portable"
check_headers hnswlib
build_wheel hnswlib "HNSWLIB_NO_NATIVE $(uname -sm) $("$python" -c 'import sys; print(sys.implementation.cache_tag)')" \
  "half a minute"
build_wheel llama-cpp-python "$portable $(uname -sm)" "2 to 4 minutes"
install_wheel hnswlib
install_wheel llama-cpp-python

say "installing the packages of $lock"
pip install -qq --no-deps --require-hashes --requirement "$lock"
say "installing flatpack-build"
pip install -qq --no-deps --build-constraint "$build_lock" --editable .
"$python" -c 'import hnswlib, llama_cpp' || fail "the packages built in .wheels do not load." \
  "Build them again: rm -rf .wheels .venv && make setup"

printf '%s %s\n' "$want" "$root" >"$stamp"
say "ready after $(($(date +%s) - started)) s"
