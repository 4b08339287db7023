PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder
# Some images set it: each of the hundred processes of a run would compile all our modules anew.
unexport PYTHONDONTWRITEBYTECODE
SOAK_JOBS ?= 10000
SOAK_FAULTS ?= 200
SOAK_UPLOADS ?= 5000
SEED ?= 1
MINUTES ?= 27
SOAK_TESTS := $(addprefix tests/integration/,jobs/test_state_machine.py jobs/test_batches.py worker/test_process_faults.py i2vgen/test_i2vgen_growth.py)

help:  ## Show these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run:  ## Start everything on this machine; PORT=7861 for another port
	@$(PYTHON) -m local.install run
	@$(BIN)/python -m local

weights: $(BIN)/python  ## Show which weights are here; ARGS="pull wan", "verify", "remove svd" or "tiny svd DIR"
	@$(BIN)/python -m worker.weights $(or $(ARGS),list)

demo: $(BIN)/python  ## Send a sample photo to the running service and keep its clip in outputs/
	@$(BIN)/python -m local.demo

key: $(BIN)/python  ## Make an API key for the running service: NAME=cms; ADMIN=1 for one that manages keys
	@$(BIN)/python -m local.key create "$(NAME)" $(if $(ADMIN),--admin)

unit:  ## Run the tests that need no server and no model library; ARGS="-k name" goes to pytest, as in the two below
	@$(PYTHON) -m local.install dev
	@FLOOR_SECONDS=60 $(PYTEST) -m "not extended" tests/unit tests/test_architecture.py $(ARGS)

test:  ## Run the tests, against servers of its own
	@$(PYTHON) -m local.install dev
	@FLOOR_SECONDS=480 $(PYTEST) -m "not extended" $(ARGS)

test-all:  ## Run what `make test` leaves out: controls, receivers and SDKs of other languages, growth, long chaos
	@$(PYTHON) -m local.install dev
	@FLOOR_SECONDS=1200 $(PYTEST) -m extended $(ARGS)

soak:  ## Storm over the service with faults; SOAK_JOBS=10000 SOAK_FAULTS=200 SEED=1
	@$(PYTHON) -m local.install dev
	@$(BIN)/python -m tests.chaos.storm --jobs $(SOAK_JOBS) --faults $(SOAK_FAULTS) --seed $(SEED)
	@STATE_MACHINE_EXAMPLES=2000 REPLACEMENT_KILLS=50 BATCH_ROUNDS=50 GROWTH_RENDERS=2000 $(BIN)/python -m pytest -q $(SOAK_TESTS)
	@INDUCTOR=1 $(BIN)/python -m pytest -q tests/integration/i2vgen/test_i2vgen_compiled.py -k makes_of_the_graph

soak-uploads:  ## Storm of hostile uploads over one gateway; SOAK_UPLOADS=5000 SEED=1
	@$(PYTHON) -m local.install dev
	@$(BIN)/python -m tests.chaos.upload_storm --requests $(SOAK_UPLOADS) --seed $(SEED)

check:  ## Check format, lint, types, borders and architecture
	@$(PYTHON) -m local.install dev
	@$(BIN)/python -m ruff format --check . && $(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy && PYTHONPATH=client $(BIN)/lint-imports && $(BIN)/python -m pytest -q tests/test_architecture.py

fmt:  ## Format the code, and mend what lint can mend by itself
	@$(PYTHON) -m local.install dev
	@$(BIN)/python -m ruff check --fix -q . ; $(BIN)/python -m ruff format .

migration: $(BIN)/python  ## Begin a migration: NAME="what it is for"
	@$(BIN)/python -m local.migration "$(NAME)"

routes: $(BIN)/python  ## List every route: method, path, handler
	@$(BIN)/python -m tests.support.routes

audit:  ## Ask for known vulnerabilities of every pinned library; needs the network
	@$(PYTHON) -m local.install dev
	@$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

lock: $(BIN)/python  ## Pin what the images install by hash, and images by digest where docker is; needs the network
	@$(BIN)/python -m local.lock

bench-gpu: $(BIN)/python  ## Measure rendering at full size on this machine's card, MINUTES=9 for the first rows; writes outputs/bench-cuda.md
	@$(BIN)/python -m bench.render --device cuda --minutes $(MINUTES) --arm-minutes 6

env:  ## Write a .env for docker compose that fits this machine
	@$(PYTHON) -m local.env_file

$(BIN)/python:
	@echo "stillreel: there is no .venv here yet; make run makes it" >&2; exit 1

clean:  ## Remove the environment and caches; .data and outputs stay
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help run weights demo key unit test test-all soak soak-uploads check fmt migration routes audit lock bench-gpu env clean
