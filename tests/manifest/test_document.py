from __future__ import annotations

from pathlib import Path

import pytest

from flatpack_build.errors import ManifestError, Place
from flatpack_build.manifest.document import parse_document, read_document


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("version = 0.1.0\n", 1, 14, "expected newline", 'version = "0.1.0"'),
        ("a = 1\nlicense = MIT  # mine\n", 2, 11, "invalid value", 'license = "MIT"'),
        ("a = True\n", 1, 5, "invalid value", "a = true"),
        ('a = "x\nb = 1\n', 1, 7, "illegal character", "quote is missing"),
        ("a = 1\na = 2\nb = 3\n", 2, 6, "cannot overwrite", "only once"),
        ("[a]\n[a]\n", 2, 3, "twice", "only once"),
        ("a 1\n", 1, 3, "expected '='", 'key = "value"'),
        ('a = 1\nb = """never closed\n\n', 2, 20, "unterminated", ""),
        ("[a", 1, 3, "expected ']'", ""),
    ],
)
def test_a_syntax_error_says_where_and_what_to_write(
    text: str, line: int, column: int, message: str, hint: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_document(text, "x.toml")
    assert caught.value.place == Place("x.toml", line, column)
    assert caught.value.message.startswith("not valid TOML: ")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert bool(hint) == bool(caught.value.hint)


@pytest.mark.parametrize("text", [f"a = {'[' * 20_000}", f"a = {'9' * 6000}"])
def test_a_value_that_python_cannot_hold_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(ManifestError):
        parse_document(text, "x.toml")


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    document = read_document(file)
    assert document.data == {"a": 1, "b": 2}
    assert document.value_place(("b",)) == Place(str(file), 2, 5)


def test_a_byte_that_is_no_text_is_found(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes("a = 1\nb = 'é\xff'\n".encode().replace(b"\xc3\xbf", b"\xff"))
    with pytest.raises(ManifestError, match="0xff is not UTF-8") as caught:
        read_document(file)
    assert caught.value.place == Place(str(file), 2, 7)


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_document(tmp_path / "x.toml", what="manifest")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_document(tmp_path)


def test_a_huge_file_is_not_parsed(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    with open(file, "wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(ManifestError, match="larger than"):
        read_document(file)
