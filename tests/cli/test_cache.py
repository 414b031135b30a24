"""``flatpack cache`` on small caches. Builds beside it are in tests/e2e/test_cache_care.py."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flatpack_build.cli.cache import cache as command
from flatpack_build.errors import StoreError
from flatpack_build.store.use import CacheUse, have_alone
from tests.store.filling import Cache, fetch, flip_a_bit


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """Three actions, outside of any project."""
    monkeypatch.chdir(tmp_path)
    cache = Cache(Path(os.environ["FLATPACK_CACHE"]))
    cache.put("run:a/one", {"one": b"one" * 10_000})
    cache.put("run:a/two", {"two": b"two" * 10_000})
    cache.put("fetch:a", {"file": b"f" * 50_000}, params=fetch("https://example.org/a", b"f" * 50_000))
    for number, key in enumerate(sorted(cache.known())):
        os.utime(cache.entry(key), (1_700_000_000 + number, 1_700_000_000 + number))
    return cache


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def said(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_path(cache: Cache) -> None:
    assert run("path").output == f"{cache.root}\n"


def test_stats(cache: Cache) -> None:
    text = run("stats").output
    assert re.search(r"^size +111\.\d kB$", text, re.MULTILINE)
    assert re.search(r"^run +2 +60\.\d kB$", text, re.MULTILINE)
    assert re.search(r"^fetch +1 +50\.\d kB$", text, re.MULTILINE)
    assert re.search(r"^fetch:a +[0-9a-f]{12} +50\.0 kB$", text, re.MULTILINE)
    assert re.search(r"^longer ago +3 ", text, re.MULTILINE)
    assert re.search(r"^disk free +[\d.]+ [GM]B$", text, re.MULTILINE)
    value = said("stats")
    assert (value["path"], value["actions"], value["blobs"]) == (str(cache.root), 3, 6)
    assert value["biggest"][0] == {"digest": value["biggest"][0]["digest"], "size": 50_000, "made_by": ["fetch:a"]}
    assert value["limits"] == {"max_size": None, "max_age": None}


@pytest.mark.parametrize("arguments", [("stats",), ("gc",), ("gc", "--dry-run"), ("verify",)])
def test_a_cache_that_does_not_exist_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str]
) -> None:
    monkeypatch.setenv("FLATPACK_CACHE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "0 B" in result.output
    assert not (tmp_path / "none").exists()


def test_gc_with_a_size(cache: Cache) -> None:
    result = run("gc", "--max-size", "100kB")
    assert result.exit_code == 0
    assert re.search(
        r"^removed \d+\.\d kB: 1 action, 2 blobs, 0 leftovers; \d+\.\d kB left$", result.output, re.MULTILINE
    )
    assert len(cache.known()) == 2


def test_gc_with_an_age(cache: Cache) -> None:
    newest = max(cache.known(), key=lambda key: cache.entry(key).stat().st_mtime)
    os.utime(cache.entry(newest))
    value = said("gc", "--max-age", "30d")
    assert cache.known() == {newest}
    assert sorted(action["action"] for action in value["actions"]) != []
    assert value["size_after"] < value["size_before"]


def test_a_dry_run_removes_nothing(cache: Cache) -> None:
    result = run("gc", "--max-size", "0B", "--dry-run")
    assert "would remove" in result.output
    assert len(cache.known()) == 3
    value = said("gc", "--max-size", "0B", "--dry-run")
    assert value["dry_run"] is True
    assert len(value["actions"]) == 3


def test_the_limits_of_the_settings_hold_where_no_option_says_otherwise(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.flatpack-build]\ncache_max_size = "0B"\n')
    assert len(said("gc", "--dry-run")["actions"]) == 3
    assert len(said("gc", "--dry-run", "--max-size", "1GB")["actions"]) == 0
    assert said("stats")["limits"] == {"max_size": 0, "max_age": None}
    assert "cache_max_size = 0B" in run("stats").output


def test_without_a_limit_it_is_said_how_to_set_one(cache: Cache) -> None:
    assert "cache_max_size" in run("gc").output
    assert len(cache.known()) == 3


@pytest.mark.parametrize("arguments", [("--max-size", "20"), ("--max-size", "-1GB"), ("--max-age", "1month")])
def test_a_limit_that_is_none(arguments: tuple[str, str]) -> None:
    result = run("gc", *arguments)
    assert result.exit_code == 2
    assert "expected a" in result.output


def test_what_is_more_than_the_limit_is_explained(cache: Cache) -> None:
    cache.store.add_bytes(b"new and nobody's")
    result = run("gc", "--max-size", "1B")
    assert result.exit_code == 0
    assert "more than the limit" in result.output
    assert "came within the last hour" in result.output


def test_a_broken_lock_is_warned_about(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "warehouse/a").mkdir(parents=True)
    (tmp_path / "warehouse/a/flatpack.lock").write_text("no lock")
    result = run("gc", "--max-size", "0B")
    assert result.exit_code == 0
    assert "a lock cannot be read" in result.stderr
    assert len(cache.known()) == 1


def test_no_wait_fails_where_a_build_uses_the_cache(cache: Cache) -> None:
    use = CacheUse(cache.root)
    use.hold(lambda: None)
    result = run("gc", "--no-wait")
    assert isinstance(result.exception, StoreError)
    assert "a build uses the cache" in result.exception.message
    use.release()
    assert run("gc", "--no-wait").exit_code == 0
    alone = have_alone(cache.root, wait=False)
    assert alone is not None  # gc gave it back
    alone.release()


def test_verify_of_a_whole_cache(cache: Cache) -> None:
    result = run("verify", "--jobs", "2")
    assert result.exit_code == 0
    assert "6 blobs of" in result.output
    assert "nothing bad" in result.output
    assert said("verify")["findings"] == []


def test_verify_of_a_damaged_cache(cache: Cache) -> None:
    flip_a_bit(cache.blob(b"one" * 10_000))
    result = run("verify")
    assert result.exit_code == 1
    assert re.search(r"^damaged blob +[0-9a-f]{12} +30\.0 kB +removed +its bytes", result.output, re.MULTILINE)
    assert "1 bad" in result.output
    os.chmod(cache.blob(b"two" * 10_000), 0o666)
    result = run("verify", "--json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["kind"], finding["done"]) == ("permissions", "mended")
    assert run("verify").exit_code == 0
