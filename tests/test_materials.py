from __future__ import annotations

import json

import pytest

from flatpack_build.materials import Materials, ModelUse, SourceUse, StepUse, WheelUse

WHOLE = Materials(
    "1.2.3",
    "Apache-2.0",
    "Ä description",
    ModelUse("gguf", "Q4_0", "Q4_1"),
    (SourceUse("embedder", "pypi:a==1#b", {"b": "0" * 64}, {"wheel": "a.whl"}, "vector", ("MIT", "Other"), "note"),),
    (WheelUse("a", "1", "a.whl", "1" * 64),),
    (StepUse("index", 2, {"m": 16, "tools": ["x"], "nothing": None}),),
)


@pytest.mark.parametrize("materials", [WHOLE, Materials()])
def test_they_come_back_from_their_text(materials: Materials) -> None:
    assert Materials.decode(materials.encode()) == materials


@pytest.mark.parametrize("change", [{"sources": None}, {"steps": [{"step": "x"}]}, {"more": 1}, {"model": 3}])
def test_anything_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no materials"):
        Materials.decode(json.dumps({**json.loads(WHOLE.encode()), **change}))


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="no role 'banana'"):
        Materials.decode(WHOLE.encode().replace('"embedder"', '"banana"'))
