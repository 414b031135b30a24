"""Make operating-manual.pdf, one folder up, from operating-manual.md beside this script.

Needs the package fpdf2 (2.8 was used), which is not a dependency of the project: install it into an environment of
its own and run this script with it. The same text gives the same bytes: the date inside is fixed, not today's.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF, XPos, YPos
from fpdf.fonts import FontFace
from fpdf.outline import TableOfContents

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "operating-manual.md"
TARGET = HERE.parent / "operating-manual.pdf"
DATE = datetime(2026, 1, 1, tzinfo=UTC)

INK = (33, 37, 41)
SOFT = (108, 117, 125)
ACCENT = (0, 92, 135)
PAPER = (243, 246, 248)
LINE = (206, 212, 218)
MARGIN = 25
BODY = 10.3
LEADING = 5.2


class Manual(FPDF):
    """An A4 manual: a cover with the contents on it, then pages with a running header and a page number."""

    def __init__(self, title: str, subtitle: str) -> None:
        super().__init__(format="A4")
        self.name = f"{title} - {subtitle}"
        self.set_title(f"{title}: {subtitle}")
        self.set_author("The flatpack-build developers")
        self.set_lang("en")
        self.set_creation_date(DATE)
        self.set_margins(MARGIN, 28, MARGIN)
        self.set_auto_page_break(True, margin=26)

    def header(self) -> None:
        if self.page_no() == 1:
            return
        self.set_y(14)
        self.set_font("Helvetica", "", 8.5)
        self.set_text_color(*SOFT)
        self.cell(0, 5, self.name, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_draw_color(*LINE)
        self.line(MARGIN, 20.5, self.w - MARGIN, 20.5)
        self.set_y(28)

    def footer(self) -> None:
        if self.page_no() == 1:
            return
        self.set_y(-17)
        self.set_font("Helvetica", "", 8.5)
        self.set_text_color(*SOFT)
        self.cell(0, 5, str(self.page_no()), align="R")

    def room(self, height: float) -> None:
        """Go to a new page when less than ``height`` millimetres are left on this one."""
        if self.will_page_break(height):
            self.add_page()

    def body(self, style: str = "") -> None:
        self.set_font("Helvetica", style, BODY)
        self.set_text_color(*INK)

    def chapter(self, text: str) -> None:
        self.room(45)
        if self.get_y() > 40:
            self.ln(6)
        self.set_font("Helvetica", "B", 17)
        self.set_text_color(*ACCENT)
        self.start_section(text, level=0)
        self.multi_cell(0, 8, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(2.5)

    def topic(self, text: str) -> None:
        self.room(34)
        self.ln(2.5)
        self.set_font("Helvetica", "B", 12.5)
        self.set_text_color(*INK)
        self.start_section(text, level=1)
        self.multi_cell(0, 6.5, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1)

    def paragraph(self, text: str) -> None:
        self.body()
        lines = self.multi_cell(0, LEADING, text, align="L", dry_run=True, output="LINES")
        self.room(LEADING * min(len(lines), 6))
        self.multi_cell(0, LEADING, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(2.2)

    def item(self, mark: str, text: str) -> None:
        self.body()
        self.room(11)
        self.set_x(MARGIN + 2)
        self.cell(6, LEADING, mark)
        self.multi_cell(self.w - 2 * MARGIN - 8, LEADING, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(0.9)

    def code(self, lines: list[str]) -> None:
        height = 4.9 * len(lines) + 5
        self.room(height + 3)
        self.ln(0.5)
        self.set_fill_color(*PAPER)
        top = self.get_y()
        self.rect(MARGIN, top, self.w - 2 * MARGIN, height, style="F")
        self.set_fill_color(*ACCENT)
        self.rect(MARGIN, top, 0.9, height, style="F")
        self.set_font("Courier", "", 9.5)
        self.set_text_color(*INK)
        self.set_y(top + 2.5)
        for line in lines:
            self.set_x(MARGIN + 4)
            self.cell(0, 4.9, line, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_y(top + height)
        self.ln(3.6)

    def grid(self, rows: list[list[str]]) -> None:
        self.body()
        self.set_font_size(9.5)
        self.room(8 * len(rows))
        self.set_draw_color(*LINE)
        self.set_fill_color(255, 255, 255)
        heading = FontFace(emphasis="BOLD", color=(255, 255, 255), fill_color=ACCENT)
        with self.table(
            col_widths=(38, 20, 20, 22), headings_style=heading, line_height=7, text_align="LEFT", padding=(0, 2)
        ) as table:
            for row in rows:
                table.row(row, style=FontFace(fill_color=(255, 255, 255)) if row is not rows[0] else None)
        self.ln(4)


def cover(manual: Manual, title: str, facts: dict[str, str]) -> None:
    """The first page: a band with the title, what this is in a sentence, and the contents below."""
    manual.add_page()
    manual.set_fill_color(*ACCENT)
    manual.rect(0, 0, manual.w, 92, style="F")
    manual.set_text_color(255, 255, 255)
    manual.set_xy(MARGIN, 34)
    manual.set_font("Helvetica", "B", 34)
    manual.cell(0, 14, title, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    manual.set_font("Helvetica", "", 19)
    manual.cell(0, 11, facts["subtitle"], new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    manual.ln(3)
    manual.set_font("Helvetica", "", 11)
    manual.multi_cell(0, 5.6, facts["summary"], align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    manual.set_y(-26)
    manual.set_auto_page_break(False)
    manual.set_font("Helvetica", "", 9)
    manual.set_text_color(*SOFT)
    manual.cell(0, 5, f"{facts['version']}. Apache License 2.0.")
    manual.set_auto_page_break(True, margin=26)
    manual.set_y(106)
    manual.set_font("Helvetica", "B", 13)
    manual.set_text_color(*ACCENT)
    manual.cell(0, 8, "Contents", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    manual.ln(1)
    manual.body()
    manual.set_font_size(9.5)
    contents = TableOfContents(level_indent=6, line_spacing=1.32)
    manual.insert_toc_placeholder(contents.render_toc, pages=1)


def render(text: str) -> bytes:
    """The manual as a PDF."""
    head, *chapters = re.split(r"\n(?=## )", text)
    title = head.splitlines()[0].removeprefix("# ")
    facts = dict(re.findall(r"^(\w+): (.+)$", head, re.MULTILINE))
    manual = Manual(title, facts["subtitle"])
    cover(manual, title, facts)
    for chapter in chapters:
        for block in re.split(r"\n\s*\n(?![^`]*```\n\n)", chapter.strip()):
            draw(manual, block)
    return bytes(manual.output())


def draw(manual: Manual, block: str) -> None:
    """Lay out one block of the source. Raises ``ValueError`` on anything the source does not use today."""
    lines = block.splitlines()
    if block.startswith("### "):
        manual.topic(block[4:])
    elif block.startswith("## "):
        manual.chapter(block[3:])
    elif block.startswith("```"):
        if lines[-1] != "```":
            raise ValueError(f"a code block that does not end, or has an empty line in it: {lines[1]!r}")
        manual.code(lines[1:-1])
    elif block.startswith("|"):
        manual.grid([[cell.strip() for cell in line.strip("|").split("|")] for line in lines])
    elif block.startswith("- ") or re.match(r"\d+\. ", block):
        for line in lines:
            mark, _, rest = line.partition(" ")
            manual.item("\x95" if mark == "-" else mark, rest)
        manual.ln(1.6)
    elif len(lines) == 1:
        manual.paragraph(block)
    else:
        raise ValueError(f"a paragraph on more than one line: {lines[0]!r}")


if __name__ == "__main__":
    TARGET.write_bytes(render(SOURCE.read_text(encoding="utf-8")))
