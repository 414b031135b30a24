"""Read a folder of documents. Knows the file types there are; nothing of chunks, embeddings or indexes."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from pathlib import Path

from flatpack_build.errors import Place, StepError
from flatpack_build.fs import walk_files
from flatpack_build.vector.blocks import Block, Document, Unit, sections_of
from flatpack_build.vector.markdown import markdown_blocks, plain_blocks
from flatpack_build.vector.pdf import PdfError, pdf_blocks
from flatpack_build.vector.rst import rst_blocks
from flatpack_build.vector.webpage import html_blocks

_TEXTS: dict[str, Callable[[str], Iterable[Block]]] = {
    ".htm": html_blocks,
    ".html": html_blocks,
    ".markdown": markdown_blocks,
    ".md": markdown_blocks,
    ".rst": rst_blocks,
    ".txt": plain_blocks,
}
READABLE = (*sorted(_TEXTS), ".pdf")
"""The endings of the files that can be read, in lower case."""

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def document_paths(folder: Path) -> list[str]:
    """What is to be read below ``folder``: sorted paths relative to it, with ``/``.

    Raises ``StepError`` when a file is of a type that cannot be read, before any of them is opened.
    """
    paths = [path for path, _ in walk_files(folder) if not path.endswith("/")]
    unknown = [path for path in paths if Path(path).suffix.lower() not in READABLE]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise StepError(
            f"{unknown[0]}{more}: not a document that can be read",
            place=Place(unknown[0]),
            hint=f"these can: {', '.join(READABLE)}. Leave others out of [docs] files, or convert them to one of these",
        )
    return paths


def read_document(folder: Path, path: str) -> Document:
    """Read ``folder/path``. Raises ``StepError``, naming the file, when it is unreadable, encrypted or without text."""
    place = Place(path)
    try:
        data = (folder / path).read_bytes()
    except OSError as error:
        raise StepError(
            f"the document cannot be read: {error.strerror}", place=place, hint="check that it exists and may be read"
        ) from error
    suffix = Path(path).suffix.lower()
    unit: Unit = "line"
    if suffix == ".pdf":
        unit = "page"
        try:
            blocks = pdf_blocks(data)
        except PdfError as error:
            raise StepError(f"the PDF cannot be read: {error}", place=place, hint=error.hint) from error
        nothing = "a scanned PDF holds pictures only: run text recognition (OCR) over it first, or leave it out"
    else:
        text = _decoded(data, path)
        blocks = list(_TEXTS[suffix](text))
        nothing = "write something into it, or leave it out of [docs] files"
    sections = sections_of(blocks)
    if not sections:
        raise StepError("the document has no text in it", place=place, hint=nothing)
    return Document(path, unit, sections)


def _decoded(data: bytes, path: str) -> str:
    """Text with ``\\n`` at the end of its lines. UTF-8, or what a byte order mark says."""
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise StepError(
            f"the document is not UTF-8 (byte {error.start} is 0x{data[error.start]:02x})",
            place=Place(path, data.count(b"\n", 0, error.start) + 1),
            hint="save it as UTF-8, for instance: iconv -f latin1 -t utf-8 old.txt > new.txt",
        ) from error
    if "\x00" in text:
        raise StepError(
            "the document holds zero bytes: it is not text", place=Place(path), hint="give it the ending of what it is"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")
