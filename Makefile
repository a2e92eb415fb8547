.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
STACK := .zen/stack
DAGS := dags_examples
PYTHON_VERSIONS := 3.11 3.12 3.13
PYTEST_WORKERS := 2
ARGS :=

# Some environments forbid bytecode; our own modules would then be compiled anew by every process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo distributed up down status test test-ml coverage lint format bench docs constraints clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv: everything pinned, the package editable
	@scripts/setup.sh

demo: setup ## Run the flight-delay pipeline twice in a real Airflow with a real MLflow (ARGS=--keep leaves them up)
	@$(BIN)/python scripts/demo.py $(ARGS)

distributed: setup ## Lose one of two Celery workers in the middle of 200 mapped steps, and show what came of it
	@scripts/test-parts.sh
	@$(BIN)/python -m tests.docker.distributed $(ARGS)

up: setup ## Start Airflow and MLflow here, with the DAGs of DAGS
	@$(BIN)/python -m airflow_zen.localstack.stack up --directory $(STACK) --dags $(DAGS)

down: setup ## Stop what `make up` started
	@$(BIN)/python -m airflow_zen.localstack.stack down --directory $(STACK)

status: setup ## Say whether what `make up` started is up
	@$(BIN)/python -m airflow_zen.localstack.stack status --directory $(STACK)

test: setup ## Run the tests (ARGS='-k cache' selects)
	@scripts/test-parts.sh
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(ARGS)

test-ml: setup ## Install the large ML libraries too, and run the tests that need them
	@scripts/setup.sh ml
	@$(BIN)/python -m pytest -m ml -n $(PYTEST_WORKERS) --dist loadfile $(ARGS)

coverage: setup ## Run the tests in one process, and show the lines that none of them reaches
	@scripts/test-parts.sh
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: setup ## Check style, types, layers and Dockerfiles
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/*Dockerfile

format: setup ## Format, and mend what can be mended
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: setup ## Measure what the README claims
	@shopt -s nullglob; files=(bench/bench_*.py); \
	 [ $${#files[@]} -gt 0 ] || { echo 'bench: there is no bench/bench_*.py' >&2; exit 1; }; \
	 for file in "$${files[@]}"; do echo "== $$file"; $(BIN)/python "$$file" $(ARGS) || exit 1; done

docs: setup ## Check the links and the examples of the documents
	@$(BIN)/python scripts/check_docs.py

constraints: setup ## Resolve every dependency anew and pin it
	@for version in $(PYTHON_VERSIONS); do \
	   echo "constraints/python-$$version.txt"; \
	   $(BIN)/uv pip compile --quiet --upgrade --all-extras --python-version $$version \
	     --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	     --output-file constraints/python-$$version.txt setup.cfg >/dev/null || exit 1; \
	 done

clean: ## Stop what is up and remove what was built (not .venv)
	@for stack in .zen/*/stack.json; do \
	   [ ! -e "$$stack" ] || $(BIN)/python -m airflow_zen.localstack.stack down --directory "$${stack%/*}" || exit 1; \
	 done
	@rm -rf .zen build dist *.egg-info .coverage .coverage.* htmlcov .mypy_cache .hypothesis .pytest_cache .ruff_cache .import_linter_cache
	@find airflow_zen tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
