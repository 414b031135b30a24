"""A build report as JUnit XML: a suite for each flatpack, a test case for each action. Pure: data in, bytes out.

There is no one schema of JUnit XML. This keeps to what the strict one (Ant's) and the Jenkins one both take: no
attributes on ``testsuites``, one outcome in a case and nothing else, output on the suite.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from flatpack_build.errors import ERROR_TYPES
from flatpack_build.record import ActionLine
from flatpack_build.report.model import BuildReport

_ACTION = re.compile(r"[^:]+:([\w-]+)(?:[/@].*)?")
_OTHERS = "tasks"  # those of the user's own
# What XML 1.0 cannot hold, even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(report: BuildReport) -> bytes:
    """Cached and up-to-date actions are passed ones, actions that were not run are skipped ones."""
    suites: dict[str, list[ActionLine]] = {}
    for line in report.lines:
        match = _ACTION.fullmatch(line.action)
        suites.setdefault(match[1] if match else _OTHERS, []).append(line)
    if report.problem:
        problem = ActionLine("plan", "plan", "failed", error=report.problem, error_type="FlatpackError")
        suites = {"build": [problem], **suites}
    root = ET.Element("testsuites")
    for number, (name, lines) in enumerate(suites.items()):
        root.append(_suite(report, number, name, lines))
    ET.indent(root)
    return b"<?xml version='1.0' encoding='utf-8'?>\n" + ET.tostring(root, encoding="unicode").encode() + b"\n"


def _suite(report: BuildReport, number: int, name: str, lines: Sequence[ActionLine]) -> ET.Element:
    failed = [line for line in lines if line.state == "failed"]
    errors = sum(1 for line in failed if _unforeseen(line))
    suite = ET.Element(
        "testsuite",
        {
            "name": name,
            "package": "flatpack",
            "id": str(number),
            "timestamp": report.started.strftime("%Y-%m-%dT%H:%M:%S"),
            "hostname": platform.node() or "localhost",
            "tests": str(len(lines)),
            "failures": str(len(failed) - errors),
            "errors": str(errors),
            "skipped": str(sum(1 for line in lines if line.state == "not run")),
            "time": f"{sum(line.seconds for line in lines):.3f}",
        },
    )
    ET.SubElement(suite, "properties")
    suite.extend([_case(name, line) for line in lines])
    said = [f"{line.action}: {line.state}" + "".join(f"\n  {note}" for note in line.notes) for line in lines]
    ET.SubElement(suite, "system-out").text = _clean("\n".join(said))
    ET.SubElement(suite, "system-err").text = ""
    return suite


def _case(suite: str, line: ActionLine) -> ET.Element:
    attributes = {"name": line.action, "classname": f"{suite}.{line.step}", "time": f"{line.seconds:.3f}"}
    case = ET.Element("testcase", {key: _clean(value) for key, value in attributes.items()})
    if line.state == "not run":
        ET.SubElement(case, "skipped")
    elif line.state == "failed":
        message = line.error.strip().partition("\n")[0]
        kind = "error" if _unforeseen(line) else "failure"
        failure = ET.SubElement(case, kind, {"message": _clean(message), "type": line.error_type or "Error"})
        failure.text = _clean(line.error)
    return case


def _unforeseen(line: ActionLine) -> bool:
    """Whether it failed by a bug, not in one of the ways that can be foreseen."""
    return line.error_type not in ERROR_TYPES


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
