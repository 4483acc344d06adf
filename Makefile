# Two commands: `make run` and `make test`. Each sets up what it needs first.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
SOURCES := genopt_pipeline genopt_pipeline_tests benchmarks

.PHONY: help install run test lint types tests bench lock clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

.venv/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: .venv/.installed ## Make .venv with the locked dependencies and the command genopt

run: install ## Start everything on 14 days of a simulated account; UI on 127.0.0.1:3000
	$(BIN)/genopt up --demo

test: lint types tests ## Lint, types, all tests

lint: install
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: install
	$(BIN)/mypy

tests: install
	$(BIN)/python -m pytest -n 2 --dist loadgroup

bench: install ## Run the benchmarks; results go to benchmarks/results
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lock: install ## Renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-header --group dev --python-version 3.11 pyproject.toml \
	    -o requirements.lock

clean: ## Remove .venv and caches; keeps .genopt, your data
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
