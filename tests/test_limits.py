from __future__ import annotations

import pytest

from flatpack_build.limits import Limits, parse_age, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("20 GiB", 20 * 2**30), ("1.5tb", 1500 * 10**9), ("0B", 0), ("500MB", 5 * 10**8), ("7kB", 7000)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "age"), [("30d", 30 * 86400), ("12 h", 43200), ("8w", 8 * 604800), ("0.5min", 30)])
def test_ages(text: str, age: float) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "20", "GB", "-1GB", "20GB ", "1e3GB", "20 G", "twenty GB", "٣GB", "1,5GB", "20d"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as 500MB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "3m", "1y", "20GB"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="expected an age such as 12h"):
        parse_age(text)


def test_a_limit_of_nothing_is_a_limit() -> None:
    assert not Limits()
    assert Limits(max_size=0)
    assert Limits(max_age=0)
