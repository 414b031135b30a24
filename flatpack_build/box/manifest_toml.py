"""A resolved manifest as the ``flatpack.toml`` of a box: plain data in, text out. Knows no manifest model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flatpack_build.errors import BoxError

if TYPE_CHECKING:
    from tomlkit.container import Container
    from tomlkit.items import AoT, Array, Table

_LONG_LINE = 100


def render_manifest(manifest: Mapping[str, object]) -> str:
    """``manifest`` (what JSON can hold) as TOML in the order given: first plain keys, then ``[tables]``, then
    ``[[lists of tables]]``, at each level. A key whose value is ``None`` is left out. Raises ``BoxError``."""
    import tomlkit  # slow to load, and the module is on the way to every step

    document = tomlkit.document()
    _fill(document, manifest)
    return tomlkit.dumps(document).lstrip("\n")


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _fill(target: Container | Table, values: Mapping[str, object]) -> None:
    present = {key: value for key, value in values.items() if value is not None}
    tables = {key: value for key, value in present.items() if isinstance(value, Mapping)}
    lists = {key: value for key, value in present.items() if _is_tables(value)}
    for key, value in present.items():
        if key not in tables and key not in lists:
            target.append(key, _plain(key, value))
    for key, value in tables.items():
        target.append(key, _table(value))
    for key, value in lists.items():
        target.append(key, _tables(value))


def _table(values: Mapping[str, object]) -> Table:
    import tomlkit

    # A table of nothing but tables needs no line of its own.
    table = tomlkit.table(is_super_table=bool(values) and all(isinstance(value, Mapping) for value in values.values()))
    _fill(table, values)
    return table


def _tables(values: object) -> AoT:
    import tomlkit

    assert isinstance(values, list)
    tables = tomlkit.aot()
    for value in values:
        table = tomlkit.table()
        _fill(table, value)
        tables.append(table)
    return tables


def _plain(key: str, value: object) -> object:
    import tomlkit

    if isinstance(value, list):
        array: Array = tomlkit.array()
        for item in value:
            array.append(_plain(key, item))
        return array.multiline(len(array.as_string()) > _LONG_LINE)
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        for name, item in value.items():
            if item is not None:
                inline.append(name, _plain(name, item))
        return inline
    if isinstance(value, (str, bool, int, float)):
        return tomlkit.item(value)
    raise BoxError(f"the resolved manifest's {key!r} holds a value that TOML cannot: {value!r}")
