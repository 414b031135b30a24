"""Asks a GGUF a question with llama.cpp and prints the answer. Run in a process of its own by the tests."""

from __future__ import annotations

import sys

from llama_cpp import Llama

model = Llama(sys.argv[1], n_ctx=256, n_threads=2, seed=1, verbose=False)
answer = model.create_chat_completion([{"role": "user", "content": sys.argv[2]}], max_tokens=40, temperature=0.0)
print(answer["choices"][0]["message"]["content"])  # type: ignore[index]
sys.stdout.flush()
