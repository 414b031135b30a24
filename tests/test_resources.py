from __future__ import annotations

from flatpack_build.resources import builtin_folder


def test_what_travels_with_the_program_is_found() -> None:
    assert (builtin_folder("targets") / "pi5.toml").is_file()
    assert (builtin_folder("schemas") / "flatpack.schema.json").is_file()
