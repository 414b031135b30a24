"""The JUnit report, held against the rules of the strict schema (Ant's), which the lenient ones include."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from flatpack_build.report.junit import junit_xml
from flatpack_build.report.model import BuildReport
from tests.report.samples import HOSTILE, line, report

_SUITE = {
    "name": r".+",
    "package": r".+",
    "id": r"\d+",
    "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "hostname": r".+",
    "tests": r"\d+",
    "failures": r"\d+",
    "errors": r"\d+",
    "skipped": r"\d+",
    "time": r"\d+\.\d+",
}
_CASE = {"name": r"\S+", "classname": r"\S+", "time": r"\d+\.\d+"}


def attributes(element: ET.Element, rules: dict[str, str]) -> None:
    assert set(element.attrib) == set(rules)
    for name, pattern in rules.items():
        assert re.fullmatch(pattern, element.attrib[name]), (name, element.attrib[name])


def checked(subject: BuildReport) -> ET.Element:
    root = ET.fromstring(junit_xml(subject))
    assert root.tag == "testsuites"
    assert not root.attrib
    for number, suite in enumerate(root):
        attributes(suite, _SUITE)
        assert suite.get("id") == str(number)
        cases = suite.findall("testcase")
        expected = ["properties", *["testcase"] * len(cases), "system-out", "system-err"]
        assert [child.tag for child in suite] == expected
        assert suite.get("tests") == str(len(cases))
        for tag, counter in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert suite.get(counter) == str(len(suite.findall(f"testcase/{tag}")))
        for case in cases:
            attributes(case, _CASE)
            assert len(case) <= 1
            for outcome in case:
                assert outcome.tag in ("failure", "error", "skipped")
                assert set(outcome.attrib) == (set() if outcome.tag == "skipped" else {"message", "type"})
    return root


def test_one_suite_a_flatpack_one_case_an_action() -> None:
    root = checked(
        report(
            line("run:chat/words", seconds=1.25),
            line("pack:chat@pi5", "cached", seconds=0),
            line("pack:other@pi5", "up to date", seconds=0),
            line("copy:one:two", "failed", error="a task of the user's own"),
        )
    )
    names = {suite.get("name"): [case.get("name") for case in suite.findall("testcase")] for suite in root}
    assert names == {
        "chat": ["run:chat/words", "pack:chat@pi5"],
        "other": ["pack:other@pi5"],
        "tasks": ["copy:one:two"],
    }
    case = root.find("testsuite/testcase")
    assert case is not None
    assert case.attrib == {"name": "run:chat/words", "classname": "chat.run", "time": "1.250"}
    assert "pack:chat@pi5: cached" in (root.findtext("testsuite/system-out") or "")


def test_failures_errors_and_what_was_not_run() -> None:
    root = checked(
        report(
            line("run:chat/a", "failed", error="it broke\n  | the log\n  hint: mend it"),
            line("run:chat/b", "failed", error="oh", error_type="KeyError"),
            line("pack:chat@pi5", "not run"),
        )
    )
    suite = root[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["3", "1", "1", "1"]
    failure, error = suite.find("testcase/failure"), suite.find("testcase/error")
    assert failure is not None
    assert error is not None
    assert failure.attrib == {"message": "it broke", "type": "StepError"}
    assert failure.text == "it broke\n  | the log\n  hint: mend it"
    assert error.get("type") == "KeyError"


def test_a_build_that_could_not_begin_is_a_failure() -> None:
    root = checked(report(problem="flatpack.toml:2:1: unknown key"))
    assert root[0].get("failures") == "1"
    assert "unknown key" in (root[0][1][0].text or "")


def test_nothing_at_all_is_valid_too() -> None:
    assert len(checked(report())) == 0


@pytest.mark.parametrize("text", [HOSTILE, "\x00", "\ud800", "]]>", "\n\n"])
def test_any_text_gives_valid_xml(text: str) -> None:
    root = checked(report(line("run:chat/a", "failed", error=text)))
    assert len(root.findall(".//failure")) == 1


def test_odd_characters_survive_where_xml_has_them() -> None:
    failure = checked(report(line("run:chat/a", "failed", error=HOSTILE))).find(".//failure")
    assert failure is not None
    assert failure.text is not None
    assert "ü\nline two" in failure.text
    assert "]]> & 'q'" in failure.text
