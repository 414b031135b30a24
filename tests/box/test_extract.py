from __future__ import annotations

import stat
from pathlib import Path

import pytest

from flatpack_build import events
from flatpack_build.box.checked import verify_contents
from flatpack_build.box.extract import extract_verified
from flatpack_build.errors import BoxError
from tests.box.archives import tree
from tests.box.samples import ENTRIES, KeyPair, make_box


def test_a_box_comes_out_as_it_went_in(tmp_path: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    verified = extract_verified(box, tmp_path / "deep" / "out", [key.public])
    assert verified.manifest is not None
    out = tmp_path / "deep" / "out"
    found = tree(out)
    assert found.pop("payload.json") == verified.manifest.encode()
    for entry in ENTRIES:
        assert found.pop(entry.path) == entry.source
        if entry.source is not None:
            assert stat.S_IMODE((out / entry.path).stat().st_mode) == (0o755 if entry.executable else 0o644)
    assert found == {"docs": None}
    assert list((tmp_path / "deep").iterdir()) == [out]
    assert verify_contents(box, [key.public]) == verified


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(BoxError, match="there already"):
        extract_verified(box, tmp_path / "out", [key.public])
    assert tree(tmp_path / "out") == {"mine": b"mine"}


def test_nothing_is_written_for_an_unknown_key(tmp_path: Path, key: KeyPair, other_key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    with pytest.raises(BoxError, match="unknown key"):
        extract_verified(box, tmp_path / "deep" / "out", [other_key.public])
    assert list(tmp_path.iterdir()) == [box]


def test_a_box_that_changes_after_its_verification_is_found_out(tmp_path: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    descriptor = box.read_bytes()[4]
    changes: list[int] = []

    class Attacker:
        """Waits until the file has been hashed, then changes a bit that zstd does not look at."""

        def progress(self, done: int, total: int | None, unit: str) -> None:
            if done == total:
                with open(box, "r+b") as file:
                    file.seek(4)
                    changes.append(file.write(bytes([descriptor | 0x10])))

        def note(self, text: str) -> None: ...

    with events.listening(Attacker()), pytest.raises(BoxError, match="changed while it was read"):
        extract_verified(box, tmp_path / "out", [key.public])
    assert changes == [1]
    assert list(tmp_path.iterdir()) == [box]
