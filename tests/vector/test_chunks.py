from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.vector.blocks import Document, sections_of
from flatpack_build.vector.chunks import MAX_CHARACTERS, Chunk, chunks_of, unique
from flatpack_build.vector.markdown import markdown_blocks


def document(text: str, path: str = "a.md") -> Document:
    return Document(path, "line", sections_of(markdown_blocks(text)))


def sentences(count: int) -> str:
    return " ".join(f"Sentence number {number} is here." for number in range(count))


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (5, [5]), (6, [3, 3]), (7, [4, 3]), (11, [4, 4, 3]), (12, [4, 4, 4])]
)
def test_a_section_is_cut_into_even_parts(count: int, sizes: list[int]) -> None:
    chunks = list(chunks_of(document(sentences(count))))
    assert [chunk.text.count("is here") for chunk in chunks] == sizes
    assert " ".join(chunk.text for chunk in chunks) == sentences(count)


def test_a_chunk_stays_below_its_heading_and_knows_its_lines() -> None:
    first, second = chunks_of(document("# A\n\nOne. Two.\n\n## B\nThree.\n"))
    assert (first.heading, first.first, first.last, first.text) == (("A",), 3, 3, "One. Two.")
    assert (second.heading, second.first, second.last, second.text) == (("A", "B"), 6, 6, "Three.")
    assert second.passage == "A\nB\nThree."
    assert first.id == hashlib.sha256(b"One. Two.").hexdigest()[:16]


def test_items_rows_and_code_stand_on_lines_of_their_own() -> None:
    (chunk,) = chunks_of(document("Do this:\n\n- one\n- two\n\n```\nx = 1\ny = 2\n```\n"))
    assert chunk.text == "Do this:\n- one\n- two\nx = 1\ny = 2"
    assert (chunk.first, chunk.last) == (1, 9)


def test_code_stays_with_the_sentence_before_it() -> None:
    chunks = list(chunks_of(document(sentences(5) + "\n\n```\nrun\n```\n\n" + sentences(4))))
    assert [chunk.text.endswith("\nrun") for chunk in chunks] == [True, False]


@pytest.mark.parametrize(
    "text", ["word " * 2000, "x" * 5000, "```\n" + "line of code\n" * 600 + "```", "- " + "i " * 3000]
)
def test_no_chunk_is_too_long_and_nothing_is_lost(text: str) -> None:
    chunks = list(chunks_of(document(text)))
    assert all(0 < len(chunk.text) <= MAX_CHARACTERS for chunk in chunks)
    joined = "".join(chunk.text for chunk in chunks)
    bare = "".join(text.replace("```", "").removeprefix("- ").split())
    assert "".join(joined.removeprefix("- ").split()) == bare


def test_the_same_text_is_kept_once_from_its_first_place() -> None:
    both = [*chunks_of(document("# A\nSame.", "a.md")), *chunks_of(document("# B\nSame.", "b.md"))]
    assert both[0].id == both[1].id
    assert [(chunk.source, chunk.heading) for chunk in unique(both)] == [("a.md", ("A",))]


def test_a_chunk_survives_json() -> None:
    (chunk,) = chunks_of(document('# "\u00c5"\nLine\u2028separators and \\ too.'))
    line = chunk.to_json()
    assert b"\n" not in line
    assert Chunk.from_json(line) == chunk


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b'{"id": "x"}', b"\xff"])
def test_what_is_no_chunk_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a chunk"):
        Chunk.from_json(line)


@given(st.text(alphabet=st.sampled_from(list("aB. \n#-`")), max_size=200), st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_chunks_within_bounds(text: str, size: int) -> None:
    lines = text.count("\n") + 1
    for chunk in chunks_of(document(text), sentences=size, max_characters=20):
        assert 0 < len(chunk.text) <= 20
        assert 1 <= chunk.first <= chunk.last <= lines
