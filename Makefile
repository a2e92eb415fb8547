.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
STACK := .zen/stack
DAGS := dags_examples
PYTHON_VERSIONS := 3.11 3.12 3.13
AIRFLOW_VERSIONS := 3.1 3.2
VERSION := $(AIRFLOW_VERSIONS) 3.3
# More than the cores of a CI machine: tests wait for servers and processes. Each takes 2 GB of memory, and its servers as much.
PYTEST_WORKERS := 4
ARGS :=
# The files of their tests: each worker imports all that it is given.
ML_TESTS = $(shell grep -rl 'mark\.ml\b' tests --include='test_*.py')
# Airflow's own command line, with a home of its own: the stack's services have theirs under STACK.
ZEN := AIRFLOW_HOME=$(CURDIR)/.zen/airflow $(BIN)/airflow zen

# Some environments forbid bytecode; every process would then compile our modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo distributed up down status test test-ml test-images test-airflow coverage lint format ui bench bench-compare docs constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv: pinned dependencies, this package editable
	@scripts/setup.sh

demo: setup ## Run the flight-delay pipeline twice in a real Airflow with a real MLflow (ARGS=--keep leaves them up)
	@$(BIN)/python -m scripts.demo $(ARGS)

distributed: setup ## Kill one of two Celery workers during 200 mapped steps, and show the result
	@scripts/test-parts.sh
	@$(BIN)/python -m tests.docker.distributed $(ARGS)

up: setup ## Start Airflow and MLflow on this machine, with the DAGs folder DAGS
	@$(ZEN) stack up local --directory $(STACK) --dags $(DAGS)

down: setup ## Stop what `make up` started
	@$(ZEN) stack down --directory $(STACK)

status: setup ## Show the state of what `make up` started
	@$(ZEN) stack status --directory $(STACK)

test: setup ## Run the tests (ARGS='-k cache' selects)
	@scripts/test-parts.sh
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(ARGS)

test-ml: setup ## Install the large ML libraries too, and run the tests that need them
	@scripts/setup.sh ml
	@$(BIN)/python -m pytest -m ml -n $(PYTEST_WORKERS) --dist loadfile $(or $(ARGS),$(ML_TESTS))

test-images: setup ## Build the images of docker/ on stand-ins for their base images, and run a pipeline in them
	@scripts/test-parts.sh
	@$(BIN)/python -m pytest -m images tests/docker $(ARGS)

test-airflow: setup ## Run the core tests in Airflow 3.1, 3.2 and 3.3 (VERSION=3.1 selects one)
	@failed=; for version in $(VERSION); do \
	   scripts/test-airflow.sh $$version -n $(PYTEST_WORKERS) --dist loadfile $(ARGS) || failed+=" $$version"; \
	 done; [ -z "$$failed" ] || { echo "test-airflow: tests failed in Airflow$$failed" >&2; exit 1; }

coverage: setup ## Run the tests in one process, and show the lines that are not covered
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

format: setup ## Format, and apply automatic fixes
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

ui: ## Build the pages in Airflow from ui/ into airflow_zen/ui/static/ (needs Node.js)
	@cd ui && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent check && npm run --silent build

bench: setup ## Measure beside the plain way, into bench/results.json and docs/performance.md (ARGS=--list, names of rows, --compare)
	@$(BIN)/python -m bench $(ARGS)

bench-compare: setup ## Measure, and show the rows that are worse than bench/results.json by more than a quarter
	@$(BIN)/python -m bench --compare $(ARGS)

docs: setup ## Check the links and the examples in the documentation
	@$(BIN)/python scripts/check_docs.py

constraints: setup ## Resolve and pin every dependency again
	@for version in $(PYTHON_VERSIONS); do \
	   echo "constraints/python-$$version.txt"; \
	   $(BIN)/uv pip compile --quiet --upgrade --all-extras --python-version $$version \
	     --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	     --output-file constraints/python-$$version.txt setup.cfg >/dev/null || exit 1; \
	 done
	@# A newer FastAPI refuses the models of Airflow 3.2, whose API does not start in a newer Cadwyn.
	@for version in $(AIRFLOW_VERSIONS); do \
	   echo "constraints/airflow-$$version.txt"; \
	   $(BIN)/uv pip compile --quiet --upgrade --extra test --python-version $(firstword $(PYTHON_VERSIONS)) \
	     --constraint <(printf "%s\n" "apache-airflow==$$version.*" "fastapi<0.137" "cadwyn<7") --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	     --output-file constraints/airflow-$$version.txt setup.cfg >/dev/null || exit 1; \
	 done

clean: ## Stop running stacks and remove build files (not .venv)
	@for stack in .zen/*/stack.json; do \
	   [ ! -e "$$stack" ] || $(ZEN) stack down --directory "$${stack%/*}" || exit 1; \
	 done
	@rm -rf .zen build dist airflow_zen/*.egg-info .coverage .coverage.* htmlcov .mypy_cache .hypothesis .pytest_cache .ruff_cache .import_linter_cache
	@find airflow_zen tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
