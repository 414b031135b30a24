"""Which ``[build.<name>]`` step must run before which: read off their inputs and outputs. Pure; knows no files."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Protocol

from flatpack_build.patterns import covers, is_pattern, matches


class Step(Protocol):
    """What is looked at of a build step: patterns relative to the flatpack's folder."""

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...


@functools.lru_cache(maxsize=4096)
def takes(pattern: str, output: str) -> bool:
    """Whether an input ``pattern`` names an ``output``: the same path, a part of it, or a folder that holds it."""
    if pattern == output or matches(output, pattern) or covers(output, pattern):
        return True
    # A folder named outright takes in what is made inside it; "*" means files, not what lies deeper.
    return not is_pattern(pattern) and covers(pattern, output)


def dependencies(steps: Mapping[str, Step]) -> dict[str, tuple[str, ...]]:
    """For each step the names of the others whose outputs it takes, in the order they are declared."""
    return {
        name: tuple(
            other
            for other, maker in steps.items()
            if other != name and any(takes(pattern, output) for pattern in step.inputs for output in maker.outputs)
        )
        for name, step in steps.items()
    }


def find_cycle(needs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The steps of one cycle, each of which needs the next, or ``()``. Takes no recursion, so no depth is too deep."""
    done: set[str] = set()
    for start in needs:
        path: list[str] = []
        todo = [iter((start,))]
        while todo:
            name = next(todo[-1], None)
            if name is None:
                todo.pop()
                if path:
                    done.add(path.pop())
            elif name in path:
                return tuple(path[path.index(name) :])
            elif name not in done:
                path.append(name)
                todo.append(iter(needs[name]))
    return ()
