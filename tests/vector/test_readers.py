"""Markdown, plain text, reStructuredText and HTML to blocks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.vector.blocks import Block, sections_of
from flatpack_build.vector.markdown import inline_text, markdown_blocks, plain_blocks
from flatpack_build.vector.rst import rst_blocks
from flatpack_build.vector.webpage import html_blocks


def short(blocks: Iterable[Block]) -> list[tuple[str, str, int, int]]:
    return [(block.kind, block.text, block.first, block.last) for block in blocks]


MARKDOWN = """\
---
title: not for reading
---
# The *box*

A paragraph over
two lines. <!-- a comment
over two lines -->

Under
-----
- one item
  that goes on
- [x] another
1. first

```sh
# no heading
flatpack build
```

| a | b |
| --- | --- |
| 1 | **x** |

    indented code

> quoted
> text

***
[ref]: https://example.org
"""


def test_markdown() -> None:
    assert short(markdown_blocks(MARKDOWN)) == [
        ("heading", "The box", 4, 4),
        ("text", "A paragraph over two lines.", 6, 7),
        ("heading", "Under", 10, 11),
        ("item", "one item that goes on", 12, 13),
        ("item", "another", 14, 14),
        ("item", "first", 15, 15),
        ("code", "# no heading\nflatpack build", 17, 20),
        ("row", "a | b", 22, 22),
        ("row", "1 | x", 24, 24),
        ("code", "indented code", 26, 26),
        ("text", "quoted text", 28, 29),
    ]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("**bold** and *leaning* and _that_", "bold and leaning and that"),
        ("snake_case_name stays, 2 * 3 * 4 too", "snake_case_name stays, 2 * 3 * 4 too"),
        ("see [the page](https://example.org) and <https://example.org>", "see the page and https://example.org"),
        ("![a picture](x.png)", "a picture"),
        ("`**kwargs` &amp; &lt;b&gt;", "**kwargs & <b>"),
        (r"\*not bold\* \[x](y)", "*not bold* [x](y)"),
        ("a<br/>b", "a b"),
    ],
)
def test_inline_markdown(text: str, plain: str) -> None:
    assert inline_text(text) == plain


def test_a_code_block_that_is_never_closed_reaches_to_the_end() -> None:
    assert short(markdown_blocks("```\na\n\n# b")) == [("code", "a\n\n# b", 1, 4)]


def test_plain_text_has_no_markup() -> None:
    assert short(plain_blocks("# 1 thing\n*x*\n\n- item\n  more\n")) == [
        ("text", "# 1 thing *x*", 1, 2),
        ("item", "item more", 4, 5),
    ]


RST = """\
=====
Title
=====

.. a comment
   of two lines

A paragraph with ``code``, :ref:`a role <target>` and a `link <https://example.org>`_::

    literal
      text

Section
-------

.. note:: Mind this.

.. code-block:: python
   :linenos:

   print(1)

.. image:: x.png
   :alt: gone

* an item
  going on
#. numbered

Next
----
Text.
"""


def test_rst() -> None:
    assert short(rst_blocks(RST)) == [
        ("heading", "Title", 1, 3),
        ("text", "A paragraph with code, a role and a link", 8, 8),
        ("code", "literal\n  text", 10, 11),
        ("heading", "Section", 13, 14),
        ("text", "Mind this.", 16, 16),
        ("code", "print(1)", 21, 21),
        ("item", "an item going on", 26, 27),
        ("item", "numbered", 28, 28),
        ("heading", "Next", 30, 31),
        ("text", "Text.", 32, 32),
    ]
    assert [block.level for block in rst_blocks(RST) if block.kind == "heading"] == [1, 2, 2]


HTML = """<!doctype html><html><head><title>Not read</title><style>p {}</style>
<body><nav>Menu</nav>
<h1>The <em>box</em></h1>
<p>One &amp; two<br>three <b>bo</b>ld.
<p>Never closed
<ul><li><p>first</p></li><li>second</ul>
<pre>a
  b</pre>
<table><tr><th>x</th><th>y</th></tr><tr><td>1</td><td>2</td></tr></table>
<script>if (a < b) { p("no") }</script>Tail
"""


def test_html() -> None:
    found = short(html_blocks(HTML))
    assert [(kind, text) for kind, text, *_ in found] == [
        ("heading", "The box"),
        ("text", "One & two three bold."),
        ("text", "Never closed"),
        ("item", "first"),
        ("item", "second"),
        ("code", "a\n  b"),
        ("row", "x | y"),
        ("row", "1 | 2"),
        ("text", "Tail"),
    ]
    assert [first for _, _, first, _ in found] == [3, 4, 5, 6, 6, 7, 9, 9, 10]


def test_sections_carry_the_path_of_headings() -> None:
    sections = sections_of(markdown_blocks("before\n# A\n## B\ntext b\n# C\n# D\ntext d\n## E\n"))
    assert [(section.heading, [block.text for block in section.blocks]) for section in sections] == [
        ((), ["before"]),
        (("A", "B"), ["text b"]),
        ((), ["C"]),
        (("D",), ["text d"]),
        (("D",), ["E"]),
    ]


SOUP = st.text(alphabet=st.sampled_from(list("ab \n\t#-=*_`~|<>/&;:.[]()!x1\\")), max_size=120)


@pytest.mark.parametrize("read", [markdown_blocks, plain_blocks, rst_blocks, html_blocks])
@given(text=SOUP)
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_a_reader(read: object, text: str) -> None:
    assert callable(read)
    lines = text.count("\n") + 1
    for block in read(text):
        assert block.text.strip()
        assert 1 <= block.first <= block.last <= lines
        assert block.kind == "code" or "\n" not in block.text


@pytest.mark.parametrize(
    ("page", "texts"),
    [
        ("<p>one</p><![if !mso]><p>two</p><![endif]>", ["one", "two"]),
        ("<p>one</p><![CDATA[ unseen ]]><p>two</p>", ["one", "two"]),
        ("<p>one</p><![<b>two</b></p><![unknown[ x ]]><p>three</p>", ["one", "two", "x ]]>", "three"]),
    ],
)
def test_sections_of_html_that_nobody_knows_are_comments(page: str, texts: list[str]) -> None:
    """As Word writes them, and as nobody does: none of them is the end of the build."""
    said = " ".join(block.text for block in html_blocks(page))
    assert all(text in said for text in texts[:2]) and said.startswith("one") and said.endswith(texts[-1])


HARD = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
from flatpack_build.vector.markdown import markdown_blocks
from flatpack_build.vector.rst import rst_blocks
from flatpack_build.vector.sentences import split_sentences

n = 40_000
for text in ("<!--" * n, "![" * n, "**a " * n, "x" + "`" * n + "x", "```" + " " * n + "`", "# a" + " " * n + "b",
             "|---" + " " * n + "x", " " * n + "|x", "<http:" * n):
    list(markdown_blocks(text))
for text in ("=" * n + "x", "=-" * n + "x", "x **a " * n, "x *a " * n, ":" * n):
    list(rst_blocks(text))
split_sentences("." * n + "x")
print("read")
"""


def test_no_text_keeps_a_reader_busy_for_ever() -> None:
    """Half a minute of work is left to it, of which it needs a tenth; patterns that go back and forth need hours."""
    done = subprocess.run([sys.executable, "-c", HARD], capture_output=True, text=True)
    assert done.stdout == "read\n", done.stderr


@pytest.mark.parametrize(
    ("text", "title"),
    [("# A", "A"), ("## A ##", "A"), ("# A #b", "A #b"), ("# A#", "A#"), ("### #", "#"), ("# A ## ", "A"), ("##", "")],
)
def test_titles(text: str, title: str) -> None:
    assert [(block.kind, block.text) for block in markdown_blocks(text)] == ([("heading", title)] if title else [])
