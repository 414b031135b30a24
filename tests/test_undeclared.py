"""What a failed step printed: which file it missed, what to declare, and no hint where there is nothing to be said."""

from __future__ import annotations

import pytest

from flatpack_build.action import Surroundings
from flatpack_build.errors import Place, StepError
from flatpack_build.undeclared import Observed, explained, refusal

FILES = (
    "Makefile", "README.md", "chart.tpl", "data/more/deep.csv", "data/my words.csv", "data/words.csv", "flatpack.toml",
    "helpers.py", "include/words.h", "make.py", "pages/__init__.py", "pages/front.py", "scripts/make.sh", "tools/plot.py",
)  # fmt: skip
MADE = {"words.json": "words", "site": "pages", "*": "all"}


def around(*inputs: str, root: str = "/home/me/warehouse/x") -> Surroundings:
    return Surroundings("page", Place("flatpack.toml", 7, 8), root, inputs, FILES, MADE)


def seen(
    printed: str = "", *, given: tuple[str, ...] = ("make.py",), missed: tuple[str, ...] = (), **more: str
) -> Observed:
    outputs = (more.get("output", "out.html"),)
    return Observed(frozenset(given), outputs, "/run/flatpack", printed, missed)


def said(printed: str, *, given: tuple[str, ...] = ("make.py",), output: str = "out.html") -> StepError:
    failed = StepError("build step 'page' failed (exit status 1)\n  | it said this", hint="the general hint")
    error = explained(failed, around("make.py"), seen(printed, given=given, output=output))
    assert str(error.place) == "flatpack.toml:7:8"
    assert error.message.endswith("failed (exit status 1)\n  | it said this")
    return error


@pytest.mark.parametrize(
    ("printed", "entry"),
    [
        ("cat: data/words.csv: No such file or directory", "data/words.csv"),
        ("cat: ./data/words.csv: No such file or directory", "data/words.csv"),
        ("cat: /run/flatpack/data/words.csv: No such file or directory", "data/words.csv"),
        ("cat: /home/me/warehouse/x/data/words.csv: No such file or directory", "data/words.csv"),
        ("cat: 'data/my words.csv': No such file or directory", "data/my words.csv"),
        ("head: data/my words.csv: No such file or directory", "data/my words.csv"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'data/words.csv'", "data/words.csv"),
        ("python3: can't open file '/run/flatpack/helpers.py': [Errno 2] No such file or directory", "helpers.py"),
        ("sh: 0: cannot open scripts/make.sh: No such file", "scripts/make.sh"),
        ("/bin/sh: 1: scripts/make.sh: not found", "scripts/make.sh"),
        ("/bin/sh: 1: ./scripts/make.sh: not found", "scripts/make.sh"),
        ("/bin/sh: 3: cannot open data/words.csv: No such file", "data/words.csv"),
        ("make: *** No rule to make target 'data/words.csv', needed by 'out.html'.  Stop.", "data/words.csv"),
        ("make: *** No targets specified and no makefile found.  Stop.", "Makefile"),
        ("sed: can't read data/words.csv: No such file or directory", "data/words.csv"),
        ("awk: fatal: cannot open file `data/words.csv' for reading: No such file or directory", "data/words.csv"),
        ("Error: ENOENT: no such file or directory, open 'data/words.csv'", "data/words.csv"),
        ("open data/words.csv: no such file or directory", "data/words.csv"),
        ("ModuleNotFoundError: No module named 'helpers'", "helpers.py"),
        ("ModuleNotFoundError: No module named 'pages'", "pages"),
        ("ModuleNotFoundError: No module named 'pages.front'", "pages/front.py"),
        ("jinja2.exceptions.TemplateNotFound: chart.tpl", "chart.tpl"),
        ("main.c:1:10: fatal error: include/words.h: No such file or directory", "include/words.h"),
        ("could not read data/words.csv.", "data/words.csv"),
        ("data/words.csv does not exist", "data/words.csv"),
        ("/bin/sh: 1: cd: can't cd to data", "data"),
        ("ls: cannot access 'data/more': No such file or directory", "data/more"),
        ("cat: 'data/*.csv': No such file or directory", "data/*.csv"),
    ],
)
def test_the_file_and_the_line_to_add(printed: str, entry: str) -> None:
    error = said(f"before\n{printed}\nafter")
    assert error.hint == f'write in [build.page]: inputs = ["make.py", "{entry}"]'
    assert "not among its inputs" in error.message


def test_several_at_once() -> None:
    error = said("cat: data/words.csv: No such file or directory\ncat: README.md: No such file or directory\n" * 2)
    assert "looked for data/words.csv, README.md, not among its inputs, and failed" in error.message
    assert error.hint == 'write in [build.page]: inputs = ["make.py", "data/words.csv", "README.md"]'


@pytest.mark.parametrize("name", ["words.json", "site/index.html"])
def test_what_another_step_makes(name: str) -> None:
    error = said(f"cat: {name}: No such file or directory")
    maker = MADE[name.split("/")[0]]
    assert error.hint == f'write in [build.page]: inputs = ["make.py", "{name}"] (then it runs after [build.{maker}])'


@pytest.mark.parametrize(
    "printed",
    [
        "cat: data/words.csv.bak: No such file or directory",
        "cat: mywords.csv: No such file or directory",
        "cat: data/words.cs: No such file or directory",
        "cat: xdata/words.csv: No such file or directory",
        "cat: data-words.csv: No such file or directory",
        "cat: DATA/WORDS.CSV: No such file or directory",
        "cat: /srv/other/data/words.csv: No such file or directory",
        "ModuleNotFoundError: No module named 'numpy'",
        "No such file or directory",
        "read 3 words from words",
        "",
    ],
)
def test_a_name_that_only_resembles_one(printed: str) -> None:
    assert said(printed).hint == "the general hint"


def test_what_the_step_has_or_makes_is_not_missed() -> None:
    printed = "cat: data/words.csv: No such file or directory"
    assert said(printed, given=("data/words.csv",)).hint == "the general hint"
    assert said(printed, output="data/*.csv").hint == "the general hint"
    assert said("ls: cannot access 'data': No such file", given=("data/words.csv",)).hint == "the general hint"


@pytest.mark.parametrize(
    ("printed", "entry"),
    [
        ("cat: words.csv: No such file or directory", "data/words.csv"),
        ("cat: more/deep.csv: No such file or directory", "data/more/deep.csv"),
        ("cat: ../README.md: No such file or directory", "README.md"),
        ("main.c:1:10: fatal error: words.h: No such file or directory", "include/words.h"),
        ("ModuleNotFoundError: No module named 'plot'", "tools/plot.py"),
    ],
)
def test_a_name_from_another_folder_is_a_guess_and_says_so(printed: str, entry: str) -> None:
    error = said(printed)
    assert f"the flatpack has {entry}, which is not among its inputs; if it needs that, write" in error.hint
    assert f'["make.py", "{entry}"]' in error.hint
    assert "not among its inputs" not in error.message


def test_a_file_that_is_only_mentioned() -> None:
    error = said("checking data/words.csv ... bad format")
    assert error.hint.startswith(
        "it printed 'data/words.csv', a file of the flatpack that is not among its inputs; if it"
    )
    assert said("checking Makefile ... bad format").hint == "the general hint"


def test_a_file_outside_the_flatpack() -> None:
    error = said("cat: ../shared/table.csv: No such file or directory")
    assert error.hint == (
        "it looked for ../shared/table.csv, outside the flatpack's folder; inputs must lie in that folder: copy the file "
        "there and declare it"
    )


def test_a_step_that_never_started_only_gets_its_place() -> None:
    error = explained(StepError("the disk is full", hint="free some"), around(), None)
    assert (str(error.place), error.message, error.hint) == ("flatpack.toml:7:8", "the disk is full", "free some")


# --- steps that went well


def test_a_step_that_goes_on_without() -> None:
    problem = refusal(around("make.py"), seen("cat: data/words.csv: No such file or directory\n"))
    assert problem is not None
    assert problem.message == ("build step 'page' looked for data/words.csv, not among its inputs, and went on without")
    assert problem.hint == 'write in [build.page]: inputs = ["make.py", "data/words.csv"]'


@pytest.mark.parametrize(
    "printed",
    [
        "read data/words.csv",  # said, not missed
        "data/words.csv: word 'x' not found",  # its own words, not the system's
        "cat: words.csv: No such file or directory",  # a guess
        "cat: ../x: No such file or directory",
    ],
)
def test_a_step_that_went_well_is_refused_only_for_what_is_certain(printed: str) -> None:
    assert refusal(around(), seen(printed)) is None


# --- traced steps


def test_what_was_traced_and_not_printed() -> None:
    missed = (
        "data/words.csv",
        "/home/me/warehouse/x/README.md",
        "lib.so",
        "../.git",
        "/etc/passwd",
        "out.html",
        "make.py",
    )
    problem = refusal(around("make.py"), seen(missed=missed))
    assert problem is not None
    assert problem.hint == 'write in [build.page]: inputs = ["make.py", "data/words.csv", "README.md"]'
    assert refusal(around(), seen(missed=("*", "x", "setup.cfg", "../README.md", "/README.md"))) is None


def test_files_that_were_within_reach() -> None:
    own = Observed(frozenset(), (), "/tmp/x", "", (), ("/home/me/warehouse/x/data/words.csv",))
    problem = refusal(around(), own)
    assert problem is not None
    assert problem.hint == 'write in [build.page]: inputs = ["data/words.csv"]'
    problem = refusal(around(), Observed(frozenset(), (), "/tmp/x", "", (), ("/home/me/shared/x",)))
    assert problem is not None
    assert "read /home/me/shared/x, outside the flatpack's folder" in problem.message
    assert "inputs must lie in that folder" in problem.hint
