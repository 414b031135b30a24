from __future__ import annotations

import sys
import tracemalloc

import pytest

from flatpack_build.box.paths import find_conflict, fold, path_problem


@pytest.mark.parametrize("path", ["a", "a/b.txt", ".hidden", "a b/ö.md", "...", "x" * 255])
def test_good_paths_have_no_problem(path: str) -> None:
    assert path_problem(path) == ""


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/etc/passwd", "absolute"),
        ("../x", "leaves the folder"),
        ("a/../../x", "leaves the folder"),
        ("a/..", "leaves the folder"),
        ("", "empty part"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("./a", "'.'"),
        ("a\\..\\b", "backslash"),
        ("a\nb", "control character"),
        ("a\0b", "zero byte"),
        ("a\u2028b", "ends a line"),
        ("/".join("x" * 101), "too deep"),
        ("\udcff", "UTF-8"),
        ("x" * 256, "too long"),
        ("/".join(["abcdefgh"] * 200), "too long"),
    ],
)
def test_bad_paths_are_named(path: str, problem: str) -> None:
    assert problem in path_problem(path)


@pytest.mark.parametrize(
    ("files", "folders", "reason"),
    [
        (["a", "a"], [], "the same path"),
        (["readme.md", "README.md"], [], "differ only in case"),
        (["docs/a", "Docs/b"], [], "differ only in case"),
        (["caf\u00e9", "cafe\u0301"], [], "Unicode form"),
        (["stra\u00dfe", "STRASSE"], [], "differ only in case"),
        (["a", "a/b"], [], "both a file and a folder"),
        (["a/b", "a"], [], "both a file and a folder"),
        (["a"], ["a"], "both a file and a folder"),
    ],
)
def test_conflicts_are_found(files: list[str], folders: list[str], reason: str) -> None:
    conflict = find_conflict(files, folders)
    assert conflict is not None
    assert reason in conflict.reason
    assert {conflict.first, conflict.second} <= {*files, *folders}


def test_neighbours_are_no_conflict() -> None:
    assert find_conflict(["a/b", "a/c", "ab", "a.b"], ["a", "d", "a/e"]) is None


def test_two_paths_with_anything_between_them_are_found() -> None:
    """Neighbours after sorting: what stands between two that exclude each other must not hide it."""
    crowd = [f"a/{name}" for name in ("b", "b-", "b.x", "b0", "c/d/e", "é", "zz")]
    for files, folders in ((["a/b/x"], []), (["A/q"], []), (["a"], []), ([], ["A"]), (["a/C/d/f"], []), (["a/c"], [])):
        assert find_conflict(crowd, folders) is None or folders == ["A"]
        assert find_conflict([*crowd, *files], folders) is not None


def test_deep_paths_take_little_memory() -> None:
    crowd = ["/".join([f"{at:04}", *["x" * 8] * 95]) for at in range(2000)]
    tracemalloc.start()
    assert find_conflict(crowd) is None
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20  # each folder on the way of each path: 100 times as much
    tracemalloc.stop()


def test_no_character_turns_into_a_slash() -> None:
    """Else a folded path would have other parts than the path."""
    everything = "".join(chr(code) for code in range(sys.maxunicode + 1) if chr(code) != "/")
    assert not {"/", "\0"} & set(fold(everything[1:]))
