"""Reading a folder of documents, and what bad ones get."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pypdf import PdfWriter

from flatpack_build.errors import StepError
from flatpack_build.vector.blocks import Document
from flatpack_build.vector.documents import document_paths, read_document

REPOSITORY = Path(__file__).resolve().parents[2]
MANUAL = REPOSITORY / "warehouse/smollm2-chat/manual/operating-manual.pdf"


@pytest.fixture(scope="module")
def manual() -> Document:
    return read_document(MANUAL.parent, MANUAL.name)


def read_all(folder: Path) -> list[Document]:
    return [read_document(folder, path) for path in document_paths(folder)]


def refused(folder: Path, name: str, data: bytes) -> StepError:
    (folder / name).write_bytes(data)
    with pytest.raises(StepError) as caught:
        read_all(folder)
    assert caught.value.place is not None
    assert caught.value.place.file == name
    assert caught.value.hint
    return caught.value


def test_documents_come_sorted_and_in_one_encoding(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x.MD").write_bytes(b"# B\r\n\r\nText.\r\n")
    (tmp_path / "a.txt").write_bytes("\ufeffA e\u0301.".encode())
    (tmp_path / "c.html").write_bytes("<p>sixteen".encode("utf-16"))
    read = read_all(tmp_path)
    assert [document.path for document in read] == ["a.txt", "b/x.MD", "c.html"]
    assert read[0].sections[0].blocks[0].text == "A \u00e9."
    assert read[1].sections[0].heading == ("B",)
    assert read[1].sections[0].blocks[0].first == 3
    assert read[2].sections[0].blocks[0].text == "sixteen"


def test_an_unknown_type_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("fine")
    error = refused(tmp_path, "slides.pptx", b"PK")
    assert "slides.pptx" in error.message
    assert ".md" in error.hint and ".pdf" in error.hint


def test_text_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    error = refused(tmp_path, "old.txt", "one\ntwo\nsm\u00f6rg\u00e5s".encode("latin-1"))
    assert error.place is not None and error.place.line == 3
    assert "0xf6" in error.message


@pytest.mark.parametrize("data", [b"", b" \n\n", b"\x00\x01\x02", b"---\ntitle: only settings\n---\n"])
def test_a_document_without_text_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, "empty.md", data)


def test_a_missing_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"gone\.md"):
        read_document(tmp_path, "gone.md")


def test_the_manual_is_read_with_its_headings_and_pages(manual: Document) -> None:
    assert manual.unit == "page"
    by_name = {section.heading[-1]: section for section in manual.sections}
    setup = by_name["On a Raspberry Pi 5"]
    assert setup.heading == ("SmolLM2 Chat", "Operating manual", "Setting up", "On a Raspberry Pi 5")
    assert {block.first for block in setup.blocks} == {3}
    kinds = [block.kind for block in setup.blocks]
    assert kinds == ["text", "item", "item", "item", "code", "text"]
    assert setup.blocks[4].text == "flatpack unbox smollm2-chat --local\nflatpack build smollm2-chat"
    assert [block.text.split(".")[0] for block in setup.blocks[1:3]] == [
        "Power the board with the official 27 watt supply",
        "Fit a heat sink or the active cooler",
    ]


def test_every_paragraph_of_the_manuals_source_is_found_in_the_pdf(manual: Document) -> None:
    found = {block.text for section in manual.sections for block in section.blocks if block.kind == "text"}
    source = (MANUAL.parent / "source/operating-manual.md").read_text(encoding="utf-8")
    chapters = source.split("\n## ", 1)[1]
    paragraphs = [part for part in chapters.split("\n\n") if part[:1].isupper() and "\n" not in part and ". " in part]
    assert len(paragraphs) > 30
    assert [part for part in paragraphs if part not in found] == []


def test_running_headers_page_numbers_and_contents_are_left_out(manual: Document) -> None:
    texts = [block.text for section in manual.sections for block in section.blocks]
    assert not any("Operating manual" in text or "....." in text or text == "Contents" for text in texts)
    assert not any(text.strip().isdigit() for text in texts)


def locked_manual(user: str, owner: str) -> bytes:
    writer = PdfWriter(clone_from=str(MANUAL))
    writer.encrypt(user, owner, algorithm="AES-256")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_a_pdf_with_a_password_is_refused(tmp_path: Path) -> None:
    assert "password" in refused(tmp_path, "secret.pdf", locked_manual("sesame", "owner")).message


def test_a_pdf_that_only_restricts_printing_is_read(tmp_path: Path, manual: Document) -> None:
    (tmp_path / "restricted.pdf").write_bytes(locked_manual("", "owner"))
    assert read_document(tmp_path, "restricted.pdf").sections == manual.sections


def test_a_pdf_of_pictures_is_refused_with_a_word_about_ocr(tmp_path: Path) -> None:
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    buffer = io.BytesIO()
    writer.write(buffer)
    assert "OCR" in refused(tmp_path, "scan.pdf", buffer.getvalue()).hint


@pytest.mark.parametrize("length", [0, 1, 9, 3000, 12000])
def test_a_pdf_that_was_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    refused(tmp_path, "broken.pdf", MANUAL.read_bytes()[:length])


def test_what_is_no_pdf_at_all_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "letter.pdf", b"Dear reader, I am a letter.\n" * 50)


def test_damage_anywhere_gives_an_error_of_ours_or_a_document(tmp_path: Path) -> None:
    whole = MANUAL.read_bytes()
    for at in range(0, len(whole), len(whole) // 25):
        (tmp_path / "x.pdf").write_bytes(whole[:at] + bytes(64) + whole[at + 64 :])
        try:
            assert read_document(tmp_path, "x.pdf").sections
        except StepError as error:
            assert "x.pdf" in str(error)
