"""Bits that flip in the cache: found where the cache is verified, never built from, and healed by building again."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flatpack_build.digest import Digest
from flatpack_build.tree import Tree
from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground, finish

_MADE_HERE = (
    "fetch:small", "verify:small", "index:small", "run:small/words", "compress:small@laptop", "compress:small@pi5",
    "device:small@laptop", "device:small@pi5", "assemble:small@laptop", "pack:small@laptop", "pack:small@pi5",
)  # fmt: skip


def flip(path: Path, chance: random.Random) -> None:
    """One bit of the file, in place, whatever its permissions say; a hard link to it sees it too, as on a real disk."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    with open(path, "r+b") as file:
        at = chance.randrange(path.stat().st_size)
        file.seek(at)
        byte = file.read(1)[0] ^ (1 << chance.randrange(8))
        file.seek(at)
        file.write(bytes([byte]))
    path.chmod(mode)


def is_tree(path: Path) -> bool:
    try:
        Tree.decode(path.read_bytes())
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def _built(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    built = undisturbed.fresh.copy(tmp_path_factory.mktemp("flips") / "built")
    built.good_build()
    return built


@pytest.fixture
def built(_built: Ground, tmp_path: Path) -> Ground:
    return _built.copy(tmp_path / "ground")


@pytest.fixture(scope="module")
def downloaded(undisturbed: Undisturbed) -> frozenset[str]:
    """The blobs that came from the network, which these tests do not ask: they alone cannot be made again."""
    return frozenset(blob.name for blob in undisturbed.fresh.blobs())


def forget_boxes(ground: Ground) -> None:
    """So that everything is looked at again."""
    for folder in ("build", "dist"):
        shutil.rmtree(ground.project / folder)


def kinds(ground: Ground, downloaded: frozenset[str]) -> dict[str, list[Path]]:
    """The blobs that were made here, by what they are."""
    found: dict[str, list[Path]] = {"tree": [], "model": [], "box": [], "payload": [], "other": []}
    for blob in ground.blobs():
        if blob.name in downloaded:
            continue
        data = blob.read_bytes()
        if is_tree(blob):
            found["tree"].append(blob)
        elif data.startswith(b"GGUF"):
            found["model"].append(blob)
        elif b"---SIGNATURE_SEPARATOR---" in data:
            found["box"].append(blob)
        elif data.startswith(b"\x28\xb5\x2f\xfd"):
            found["payload"].append(blob)
        else:
            found["other"].append(blob)
    return found


def assert_heals(ground: Ground, undisturbed: Undisturbed, *, verify: bool = False) -> None:
    """The next build, or the one after it, gives what an undisturbed one gives; a refusal says what and why."""
    said = ""
    for _ in range(3):
        status, said = ground.build(FLATPACK_VERIFY_CACHE="1" if verify else "")
        if status == 0:
            break
        assert "cache" in said
        assert "build again" in said
    else:
        pytest.fail(said)
    assert ground.payloads() == undisturbed.payloads


def test_a_flipped_bit_in_what_a_project_remembers_changes_no_box(built: Ground, undisturbed: Undisturbed) -> None:
    """Each of these is still a valid plan, or a valid digest, and a wrong one."""
    time.sleep(0.2)  # older than a tick of the clock, so that digests are remembered
    built.good_build()
    readme = built.project / "warehouse/small/README.md"
    remembered = Digest.of_file(readme)
    wrong = ("1" if remembered[0] == "0" else "0") + remembered[1:]
    for file, right, flipped in (("plans/small.json", "Q4_0", "Q5_0"), ("digests/small.json", remembered, wrong)):
        shutil.rmtree(built.project / "build/stamps")
        path = built.project / "build" / file
        text = path.read_text()
        assert right in text
        path.write_text(text.replace(right, flipped))
        assert "built " not in built.good_build()
        assert built.payloads() == undisturbed.payloads


@pytest.mark.parametrize("file", ["plans", "digests", "last", "stamps", "doit.json", "record.jsonl"])
def test_a_project_whose_memory_is_damaged_builds_and_explains(
    built: Ground, undisturbed: Undisturbed, chance: random.Random, file: str
) -> None:
    built.good_build()
    built.doit("forget", "device:small@pi5")
    for damage in (flip, _cut, _blank, _empty_table):
        path = built.project / "build" / file
        path = path / "small.json" if path.is_dir() else path
        damage(path, chance)
        for looking in (("build", "--dry-run"), ("explain", "small")):
            assert finish(built.start(*looking))[0] == 0
        built.good_build()
        assert built.payloads() == undisturbed.payloads


def _cut(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def _blank(path: Path, _chance: random.Random) -> None:
    path.write_bytes(bytes(100))


def _empty_table(path: Path, _chance: random.Random) -> None:
    path.write_text("{}")


@pytest.mark.parametrize("kind", ["tree", "model", "box", "payload", "other"])
def test_a_flipped_bit_is_found_and_healed_where_the_cache_is_verified(
    built: Ground, undisturbed: Undisturbed, downloaded: frozenset[str], chance: random.Random, kind: str
) -> None:
    for blob in kinds(built, downloaded)[kind]:
        flip(blob, chance)
    forget_boxes(built)
    assert_heals(built, undisturbed, verify=True)
    built.doit("forget", *_MADE_HERE)
    assert_heals(built, undisturbed, verify=True)
    assert [blob for blob in built.blobs() if Digest.of_file(blob) != blob.name] == []


def test_each_blob_in_turn(
    built: Ground, undisturbed: Undisturbed, downloaded: frozenset[str], chance: random.Random
) -> None:
    """Damage and build, again and again, in one cache: it must never get worse."""
    for blob in chance.sample([blob for blob in built.blobs() if blob.name not in downloaded], 6):
        if blob.exists():
            flip(blob, chance)
        forget_boxes(built)
        assert_heals(built, undisturbed, verify=True)


def test_a_flipped_bit_in_a_tree_is_found_even_where_the_cache_is_not_verified(
    built: Ground, undisturbed: Undisturbed, downloaded: frozenset[str], chance: random.Random
) -> None:
    for blob in kinds(built, downloaded)["tree"]:
        flip(blob, chance)
    forget_boxes(built)
    assert_heals(built, undisturbed)


def test_no_box_is_made_of_a_model_with_a_flipped_bit(
    built: Ground, undisturbed: Undisturbed, downloaded: frozenset[str], chance: random.Random
) -> None:
    """Large files are not looked at before each use, but when they are packed: what is signed is what was built."""
    models = kinds(built, downloaded)["model"]
    for blob in models:
        flip(blob, chance)
    readme = built.project / "warehouse" / "small" / "README.md"
    before = readme.read_bytes()
    readme.write_bytes(before + b"so that it is packed anew\n")
    said = built.bad_build()
    assert "is not what it was" in said
    assert "build again" in said
    assert not all(blob.exists() for blob in models)
    readme.write_bytes(before)
    for part in ("laptop", "pi5"):
        built.doit("forget", f"pack:small@{part}")
    assert_heals(built, undisturbed)


def test_no_model_is_quantised_from_one_with_a_flipped_bit(
    built: Ground, undisturbed: Undisturbed, downloaded: frozenset[str], chance: random.Random
) -> None:
    source = Digest.of_file(built.project / "warehouse/small/model/small.gguf")
    (raw,) = (blob for blob in kinds(built, downloaded)["model"] if blob.name == source)
    flip(raw, chance)
    for target in ("laptop", "pi5"):
        built.doit("forget", f"compress:small@{target}")
    said = built.bad_build()
    assert "build again" in said
    assert not raw.exists()
    assert_heals(built, undisturbed)


def cut(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size // 2)


def lose(path: Path) -> None:
    path.unlink()


def rename_a_file(path: Path) -> None:
    """A tree that still is one, of the same length, with a wrong path in it."""
    entries = json.loads(path.read_bytes())
    if entries:
        entries[0][0] = "x" * len(entries[0][0])
        path.chmod(0o600)
        path.write_bytes(json.dumps(entries, separators=(",", ":")).encode())


@pytest.mark.parametrize("harm", [cut, rename_a_file, lose])
def test_a_damaged_tree_is_made_again(
    built: Ground, undisturbed: Undisturbed, downloaded: frozenset[str], harm: Callable[[Path], None]
) -> None:
    for blob in kinds(built, downloaded)["tree"]:
        harm(blob)
    forget_boxes(built)
    assert_heals(built, undisturbed)


def test_blobs_that_were_cut_short_or_lost_are_made_again(
    built: Ground, undisturbed: Undisturbed, downloaded: frozenset[str], chance: random.Random
) -> None:
    found = kinds(built, downloaded)
    for kind in ("model", "payload", "box", "other"):
        for blob in found[kind]:
            chance.choice([cut, lose])(blob)
    forget_boxes(built)
    assert_heals(built, undisturbed)


def test_flipped_bits_in_records_of_actions_cost_time_at_most(
    built: Ground, undisturbed: Undisturbed, downloaded: frozenset[str], chance: random.Random
) -> None:
    for record in sorted((built.cache / "actions").rglob("*")):
        if record.is_file() and b"pypi:" not in record.read_bytes():
            flip(record, chance)
    forget_boxes(built)
    assert_heals(built, undisturbed)
