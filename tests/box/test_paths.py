from __future__ import annotations

import pytest

from flatpack_build.box.paths import find_conflict, path_problem


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
        ("a\0b", "control character"),
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
