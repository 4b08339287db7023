PYTHON ?= python3
BIN := .venv/bin

help:  ## Show these lines
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run:  ## Start everything on this machine; PORT=7861 for another port
	@$(PYTHON) -m local.install run
	@$(BIN)/python -m local

demo:  ## Send a sample photo to the running service and keep its clip in outputs/
	@$(BIN)/python -m local.demo

test:  ## Run every test, against servers of its own
	@$(PYTHON) -m local.install dev
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check:  ## Check format, lint, types, borders and architecture
	@$(PYTHON) -m local.install dev
	@$(BIN)/python -m ruff format --check . && $(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy && $(BIN)/lint-imports && $(BIN)/python -m pytest -q tests/test_architecture.py

env:  ## Write a .env for docker compose that fits this machine
	@$(PYTHON) -m local.env_file

clean:  ## Remove the environment and caches; .data and outputs stay
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help run demo test check env clean
