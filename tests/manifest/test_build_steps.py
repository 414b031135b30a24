from __future__ import annotations

from dataclasses import dataclass

import pytest

from flatpack_build.manifest.build_steps import dependencies, find_cycle, takes
from flatpack_build.patterns import matches


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a/b.txt", "a/b.txt", True),
        ("a/b.txt", "a/*.txt", True),
        ("a/b.txt", "*.txt", False),
        ("a/b.txt", "**/*.txt", True),
        ("b.txt", "**/*.txt", True),
        ("a/b/c", "a/**", True),
        ("a", "a/**", True),
        ("ab/c", "a/**", False),
        ("A", "a", False),
        ("b", "[a-c]", True),
        ("d", "[!a-c]", True),
        ("b", "[^a-c]", False),
        ("a", "[z-a]", False),
        ("a", "[!z-a]", True),
        ("]", "[]a]", True),
        ("-", "[a-]", True),
        ("&", "[a&&b]", True),
        ("w", r"[\w]", True),
        ("x", r"[\w]", False),
        ("a/b", "a[.-0]b", False),
        ("a/b", "a[!x]b", False),
    ],
)
def test_a_star_stays_in_its_folder(path: str, pattern: str, expected: bool) -> None:
    assert matches(path, pattern) is expected


@pytest.mark.parametrize(
    ("pattern", "output", "expected"),
    [
        ("gen/a.json", "gen/a.json", True),
        ("gen/a.json", "gen", True),
        ("gen", "gen/a.json", True),
        ("gen/*.json", "gen/a.json", True),
        ("gen/a.json", "gen/*.json", True),
        ("gen/*.json", "gen/*.json", True),
        ("**/*.md", "gen/a.md", True),
        ("*", "gen/a.md", False),
        ("gen", "gender", False),
        ("data/*.csv", "gen/a.csv", False),
    ],
)
def test_an_input_names_an_output(pattern: str, output: str, expected: bool) -> None:
    assert takes(pattern, output) is expected


@dataclass
class Step:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def test_steps_need_the_makers_of_their_inputs_but_never_themselves() -> None:
    steps = {"a": Step(("**",), ("x",)), "b": Step(("x", "own.txt"), ("y",)), "c": Step(("x", "y"), ("z/1",))}
    assert dependencies(steps) == {"a": ("b", "c"), "b": ("a",), "c": ("a", "b")}
    assert dependencies({"a": Step(("*.x",), ("out.x",))}) == {"a": ()}


def test_cycles_are_found() -> None:
    assert find_cycle({"a": ["b", "c"], "b": ["c"], "c": [], "d": ["a"]}) == ()
    assert find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ("b", "c")
    assert find_cycle({"a": ["a"]}) == ("a",)


def test_a_chain_of_thousands_is_no_crash() -> None:
    chain = {str(number): [str(number + 1)] for number in range(3000)} | {"3000": []}
    assert find_cycle(chain) == ()
    assert len(find_cycle(chain | {"3000": ["0"]})) == 3001
