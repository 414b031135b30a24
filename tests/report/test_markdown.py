from __future__ import annotations

import re

from flatpack_build.report.markdown import markdown
from tests.report.samples import HOSTILE, box, line, report


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_a_good_build() -> None:
    text = markdown(
        report(
            line("compress:chat@pi5", seconds=9),
            line("index:chat", "cached", seconds=0),
            line("pack:chat@pi5", seconds=2),
            boxes=(box("chat"),),
        )
    )
    assert text.startswith("## 1 box\n\n2 built, 1 from the cache in 1 min 5 s; signed by key abc.\n")
    rows = [cells(row) for row in text.splitlines() if row.startswith("|")]
    assert rows[2] == ["`chat-0.1.0-pi5.fpk`", "pi5", r"Q4\_0", "92.3 MB", "12.5 s", "built"]
    assert [row[0] for row in rows[5:]] == ["`compress:chat@pi5`", "`pack:chat@pi5`"]  # the slowest first
    assert "Failed" not in text


def test_a_failure_is_told_whole() -> None:
    text = markdown(
        report(line("run:chat/x", "failed", error=HOSTILE), line("pack:chat@pi5", "not run", error="needs run:chat/x"))
    )
    assert text.startswith("## The build failed: 1 of 2 actions\n\n1 failed, 1 not run in")
    fence = re.search(r"^(`{3,})text\n(.*?)\n\1$", text, re.MULTILINE | re.DOTALL)
    assert fence is not None
    assert len(fence[1]) == 4  # one more than the longest run of backticks in the error
    assert "line two" in fence[2]
    assert "red" in fence[2]
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)
    text.encode()


def test_hostile_names_stay_in_their_cells() -> None:
    odd = box("chat", target="a|b`c\n<b>", quant="*x*")
    text = markdown(report(line("run:a|b`c"), boxes=(odd,)))
    rows = [cells(row) for row in text.splitlines() if row.startswith("|")]
    assert {len(row) for row in rows} == {5, 6}
    assert rows[2][1:3] == [r"a\|b\`c \<b\>", r"\*x\*"]
    assert rows[5][0] == r"`run:a\|b'c`"


def test_a_build_that_could_not_begin() -> None:
    text = markdown(report(problem="flatpack.toml:2:1: unknown key"))
    assert text == "## The build could not begin\n\n```text\nflatpack.toml:2:1: unknown key\n```\n"


def test_a_page_takes_a_megabyte() -> None:
    failed = [line(f"run:chat/{number}", "failed", error="x" * 1_000_000) for number in range(100)]
    built = [line(f"run:other/{number}") for number in range(5000)]
    boxes = tuple(box(f"chat{number}") for number in range(5000))
    text = markdown(report(*failed, *built, boxes=boxes))
    assert len(text.encode()) < 1_000_000
    for more in ("and 4500 more", "and 70 more", "and 4950 more", "984000 characters left out"):
        assert more in text
