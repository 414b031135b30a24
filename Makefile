# Every command here sets up what it needs first (.venv, see tools/setup.sh) and does nothing twice.
.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz lint schemas lock-requirements bench clean distclean

BIN := .venv/bin
JOBS ?= 2
SECONDS ?= 60
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock-requirements"

help: ## Show what there is (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with everything pinned (PYTHON=... names the Python to use)
	@PYTHON="$(PYTHON)" sh tools/setup.sh

demo: setup ## Build, sign and verify the boxes of warehouse/smollm2-chat
	@test -e keys/development.pub.pem || $(BIN)/flatpack keygen --development
	$(BIN)/doit build:smollm2-chat
	$(BIN)/flatpack verify dist/*.fpk --key keys/development.pub.pem
	@cat tools/what-now.txt

test: setup ## Run the tests (JOBS=2 at a time; ARGS="-k lock" goes to pytest)
	@$(BIN)/pytest -n $(JOBS) $(ARGS)

fuzz: setup ## Feed the reader of boxes what nobody thought of, for SECONDS=60 (Linux, x86-64, Python 3.11)
	@mkdir -p build/fuzz
	$(BIN)/python -m tests.fuzz.fuzz_box -max_total_time=$(SECONDS) -artifact_prefix=build/fuzz-found- $(ARGS) build/fuzz tests/fuzz/corpus

lint: setup ## Check style, types, layers and shell scripts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v shellcheck >/dev/null; then \
	  find tools warehouse .ci -name '*.sh' -o -path '.ci/run' | sort | xargs shellcheck && echo "shellcheck: passed"; \
	else echo "shellcheck: not installed, so shell scripts were not checked"; fi

schemas: setup ## Write schemas/ again from the models
	$(BIN)/python -m flatpack_build.manifest.schema schemas

lock-requirements: setup ## Pin the requirements again (ARGS=--upgrade takes the newest)
	$(LOCK) $(ARGS) pyproject.toml --extra dev -o requirements/lock.txt >/dev/null
	$(LOCK) $(ARGS) requirements/build.in -c requirements/lock.txt -o requirements/build.txt >/dev/null

bench: setup ## Measure what benchmarks/ measures
	$(BIN)/python -m benchmarks

clean: ## Remove what was built (not keys, not .venv)
	@test ! -d build || chmod -R u+w build
	rm -rf build dist .doit.db* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## Remove .venv and .wheels too
	rm -rf .venv .wheels
