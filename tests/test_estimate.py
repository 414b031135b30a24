"""Estimates from past runs."""

from __future__ import annotations

import pytest

from flatpack_build.estimate import Run, estimate

MB = 1_000_000


def run(action: str, input_size: int, seconds: float, size: int, **parameters: str) -> Run:
    parts = {f"parameter {name}": value for name, value in parameters.items()}
    return Run(action, action.partition(":")[0], parts, input_size, seconds, size)


def test_nothing_alike_is_unknown() -> None:
    assert estimate("compress:x", "compress", {}, MB, []) is None
    assert estimate("compress:x", "compress", {}, MB, [run("pack:x", MB, 1, 1)]) is None


def test_the_nearest_in_size_wins_and_is_scaled() -> None:
    runs = [run("compress:small", 10 * MB, 1, 5 * MB), run("compress:large", 1000 * MB, 50, 500 * MB)]
    guess = estimate("compress:x", "compress", {}, 2000 * MB, runs)
    assert guess is not None
    assert guess.seconds == pytest.approx(100)
    assert guess.size == 1000 * MB


def test_small_inputs_do_not_scale() -> None:
    guess = estimate("index:x", "index", {}, 200_000, [run("index:x", 2_000, 0.5, 100)])
    assert guess is not None
    assert guess.seconds == 0.5


def test_of_equally_large_ones_the_same_action_wins_then_the_same_parameters() -> None:
    runs = [
        run("compress:a", MB, 1, 1, quant="Q4_0"),
        run("compress:b", MB, 2, 1, quant="Q8_0"),
        run("compress:x", MB, 3, 1),
    ]
    other = estimate("compress:y", "compress", {"parameter quant": "Q8_0"}, MB, runs)
    own = estimate("compress:x", "compress", {"parameter quant": "Q8_0"}, MB, runs)
    assert other is not None
    assert own is not None
    assert (other.seconds, own.seconds) == (2, 3)


def test_a_download_tells_nothing_about_another() -> None:
    runs = [run("fetch:a", 0, 60, 98 * MB, source="pypi:a")]
    assert estimate("fetch:a", "fetch", {"parameter source": "pypi:b"}, 0, runs) is None
    again = estimate("fetch:a", "fetch", {"parameter source": "pypi:a"}, 0, runs)
    assert again is not None
    assert again.size == 98 * MB
