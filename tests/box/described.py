"""A box with everything in it, as plain data, for the tests of provenance and SBOM."""

from __future__ import annotations

from flatpack_build.box.payload import PayloadFile, PayloadManifest
from flatpack_build.box.sbom import Described, ModelInBox
from flatpack_build.digest import Digest
from flatpack_build.materials import Materials, ModelUse, SourceUse, StepUse, WheelUse


def digest(text: str) -> Digest:
    return Digest.of_bytes(text.encode())


def file(path: str) -> PayloadFile:
    return PayloadFile(path, 0o644, len(path), digest(path))


MODEL = file("models/chat-Q4_0.gguf")
DOCUMENTS = [file("README.md"), file("manual/a.md")]
INDEX = [file("vector/chunks.jsonl"), file("vector/index.hnsw")]
CONTENTS = PayloadManifest(
    "chat", "1.0.0", "pi5", tuple(sorted([MODEL, *DOCUMENTS, *INDEX, file("a.whl")], key=lambda item: item.path))
)
MATERIALS = Materials(
    builder="9.9.9",
    license="GPL-3.0-or-later WITH Classpath-exception-2.0",
    description="A chat",
    model=ModelUse("gguf", "Q4_0", "Q4_1"),
    sources=(
        SourceUse(
            "embedder",
            "pypi:words==0.4#words/table.safetensors,words/tokens.json",
            {"table.safetensors": digest("table"), "tokens.json": digest("tokens")},
            {"wheel": "words.whl", "wheel_sha256": digest("wheel")},
            "vector/embedder",
            ("MIT", "Llama 2 Community License Agreement"),
            "where it comes from",
        ),
        SourceUse("git", "git+https://example.org/tools.git@main", {}, {"commit": "c" * 40, "tree": "t"}, "tools"),
        SourceUse("dataset", "https://example.org/q.csv", {"q.csv": digest("q")}, {}, "data/q.csv"),
        SourceUse(
            "model", "hf:org/chat-GGUF@main#chat.gguf", {"chat.gguf": digest("original")}, {"commit": "d" * 40}, "",
            ("Apache-2.0",),
        ),
        SourceUse("signature", "https://example.org/chat.sig", {"chat.sig": digest("sig")}, {}),
    ),
    wheels=(WheelUse("Num_Py", "1.0", "num_py-1.0-py3-none-any.whl", digest("numpy")),),
    steps=(StepUse("compress", 3, {"quant": "Q4_0"}), StepUse("run", 1, {"name": "words", "command": "make"})),
)  # fmt: skip
FACTS: dict[str, int | str] = {"architecture": "llama", "name": "Chat 135M", "parameters": 134515008, "license": ""}
DESCRIBED = Described(CONTENTS, MATERIALS, ModelInBox(MODEL, FACTS), DOCUMENTS, INDEX)
