"""10,000 boxes that somebody changed: none is accepted, none ends in a traceback, none leaves a file behind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from flatpack_build.box import contents
from flatpack_build.box.checked import verify_contents
from flatpack_build.box.container import SEPARATOR, verify_box
from flatpack_build.box.extract import extract_verified
from flatpack_build.box.packing import PayloadEntry
from flatpack_build.box.signature import SignatureHash
from flatpack_build.cli.verify import verify
from flatpack_build.errors import BoxError
from tests.box.archives import OLD, archive, signed
from tests.box.samples import KeyPair, make_box

SIGNATURE = 256
"""Bytes, of keys with 2048 bits."""
PAYLOAD_END = -SIGNATURE - len(SEPARATOR)


@dataclass(frozen=True)
class Stock:
    """What mutations are made from: ``good`` boxes, and ``strange`` ones, signed by a key that is not trusted."""

    good: list[bytes]
    strange: list[bytes]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory, key: KeyPair, other_key: KeyPair) -> Stock:
    folder = tmp_path_factory.mktemp("stock")
    noise = random.Random(5)
    good, strange = [], []
    for number in range(6):
        hash = list(SignatureHash)[number % 3]
        data = noise.randbytes(300) + SEPARATOR + noise.randbytes(SIGNATURE) + SEPARATOR
        entries = [PayloadEntry("a", b"a" * number), PayloadEntry("sub/b", data, executable=True)]
        good.append(make_box(folder, key.private, entries, hash=hash).read_bytes())
        strange.append(make_box(folder, other_key.private, entries, hash=hash).read_bytes())
    good.append(signed(folder / "old.fpk", archive(OLD), key.private).read_bytes())
    good.append(signed(folder / "single.fpk", b"a single file " + noise.randbytes(300), key.private).read_bytes())
    return Stock(good, strange)


def _flipped(stock: Stock, chance: random.Random) -> bytes:
    data = bytearray(chance.choice(stock.good))
    for _ in range(chance.choice((1, 1, 2, 5, 50))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _cut(stock: Stock, chance: random.Random) -> bytes:
    data = chance.choice(stock.good)
    start, end = sorted((chance.randrange(len(data)), chance.randrange(len(data))))
    return chance.choice((data[:start], data[start:], data[:start] + data[end:]))


def _spliced(stock: Stock, chance: random.Random) -> bytes:
    first, second = chance.choice(stock.good), chance.choice(stock.good + stock.strange)
    if chance.random() < 0.3:  # parts of equal length, so that the end stays where it is
        start = chance.randrange(len(first))
        end = min(len(first), start + chance.randrange(200))
        return first[:start] + second[start:end].ljust(end - start, b"\0") + first[end:]
    return first[: chance.randrange(len(first))] + second[chance.randrange(len(second)) :]


def _lengthened(stock: Stock, chance: random.Random) -> bytes:
    data = chance.choice(stock.good)
    more = chance.choice(
        (
            chance.randbytes(chance.randrange(1, 600)),
            bytes(chance.randrange(1, 600)),
            SEPARATOR,
            data[-SIGNATURE:],
            SEPARATOR + data[-SIGNATURE:],
            chance.choice(stock.good),
            chance.choice(stock.strange)[PAYLOAD_END:],
        )
    )
    at = chance.choice((len(data), len(data), 0, chance.randrange(len(data)), len(data) + PAYLOAD_END))
    return data[:at] + more + data[at:]


def _separated(stock: Stock, chance: random.Random) -> bytes:
    """The separator written over the payload, or a second one, so that two places look like the end of it."""
    data = chance.choice(stock.good)
    at = chance.randrange(len(data) - len(SEPARATOR))
    if chance.random() < 0.5:
        return data[:at] + SEPARATOR + data[at + len(SEPARATOR) :]
    return data[:at] + SEPARATOR + data[-SIGNATURE:] + data[at:]


def _resigned(stock: Stock, chance: random.Random) -> bytes:
    """A payload with the signature of another one, by the same key or by a strange one."""
    first, second = chance.choice(stock.good), chance.choice(stock.good + stock.strange)
    return first[:-SIGNATURE] + second[-SIGNATURE:]


def _strange(stock: Stock, chance: random.Random) -> bytes:
    """What somebody else signed, as it is or with a bit of it changed."""
    data = bytearray(chance.choice(stock.strange))
    if chance.random() < 0.5:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _forged(stock: Stock, chance: random.Random) -> bytes:
    """A signature that needs no key."""
    data = chance.choice(stock.good)
    number = int.from_bytes(data[-SIGNATURE:], "big") + chance.choice((1, -1, 65537, 2**1024))
    return data[:-SIGNATURE] + chance.choice(
        (
            bytes(SIGNATURE),
            b"\xff" * SIGNATURE,
            bytes(SIGNATURE - 1) + b"\x01",
            chance.randbytes(SIGNATURE),
            data[-SIGNATURE:][::-1],
            (number % 2**2048).to_bytes(SIGNATURE, "big"),
        )
    )


MUTATIONS: tuple[Callable[[Stock, random.Random], bytes], ...] = (
    _flipped,
    _cut,
    _spliced,
    _lengthened,
    _separated,
    _resigned,
    _strange,
    _forged,
)
EACH = 1250


def _mutants(stock: Stock, mutation: Callable[[Stock, random.Random], bytes], count: int) -> list[bytes]:
    chance = random.Random(f"mutants of {mutation.__name__}")
    found: list[bytes] = []
    while len(found) < count:
        data = mutation(stock, chance)
        if data not in stock.good:  # chance may put back what it takes away
            found.append(data)
    return found


def test_the_stock_is_good(tmp_path: Path, stock: Stock, key: KeyPair, other_key: KeyPair) -> None:
    """Else refusing what is made of it would mean nothing."""
    for number, data in enumerate([*stock.good, *stock.strange]):
        box = tmp_path / "a.fpk"
        box.write_bytes(data)
        keys = [other_key.public if data in stock.strange else key.public]
        extract_verified(box, tmp_path / str(number), keys, allow_unlisted=True, durable=False)
    assert EACH * len(MUTATIONS) == 10_000


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__.strip("_"))
def test_no_mutant_is_accepted(
    tmp_path: Path, stock: Stock, key: KeyPair, mutation: Callable[[Stock, random.Random], bytes]
) -> None:
    box = tmp_path / "a.fpk"
    for number, data in enumerate(_mutants(stock, mutation, EACH)):
        box.write_bytes(data)
        with pytest.raises(BoxError):
            verify_box(box, [key.public])
        with pytest.raises(BoxError):  # whatever is asked for
            extract_verified(box, tmp_path / "out", [key.public], allow_unlisted=True, replace=True, durable=False)
        if number % 10 == 0:
            with pytest.raises(BoxError):
                verify_contents(box, [key.public])
        assert [path.name for path in tmp_path.iterdir()] == ["a.fpk"]
        # What nobody has verified is looked into as well: there anything may come out, but no traceback.
        for look in (contents.find_payload_manifest, lambda box: list(contents.list_entries(box))):
            try:
                look(box)
            except BoxError as error:
                assert error.message


def test_the_command_refuses_a_folder_of_them(tmp_path: Path, stock: Stock, key: KeyPair) -> None:
    for mutation in MUTATIONS:
        for number, data in enumerate(_mutants(stock, mutation, 5)):
            (tmp_path / f"{mutation.__name__}{number}.fpk").write_bytes(data)
    result = CliRunner().invoke(verify, [str(tmp_path), "--key", str(key.public_file), "--contents", "--json"])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    report = json.loads(result.stdout)
    assert report["refused"] == len(report["boxes"]) == 5 * len(MUTATIONS)
    assert all(box["error"] for box in report["boxes"])
