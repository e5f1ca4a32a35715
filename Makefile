# The commands of the house; `make` alone lists them.
#
# Each extra of pyproject.toml that is installed leaves a stamp in the virtual environment, so that a second call starts
# at once and a change of pyproject.toml installs again. Nothing here needs root.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
PYTEST_ARGS ?=
CHAOS_ARGS ?=
LOAD_ARGS ?=

BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-all lint format training bench chaos load schemathesis audit clean
.DELETE_ON_ERROR:

help: ## list these commands
	@echo "Contrafact: how would this image have to change for the classifier to change its mind?"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Settings: PORT=$(PORT) for serve, PYTHON=$(PYTHON) to choose the interpreter, PYTEST_ARGS for the tests."

demo: $(VENV)/.cpu ## explain a synthetic sample image and write demo/strip.png
	@$(BIN)/python -m app demo

serve: export PORT := $(PORT)
serve: $(VENV)/.cpu ## run broker, worker and API on 127.0.0.1:PORT until Ctrl-C
	@$(BIN)/python -m app serve

test: lint ## linters, import contracts and every test but the slow ones
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-all: lint ## the same with the slow tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test ## ruff, mypy and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

training: $(VENV)/.training ## install the offline package; then `.venv/bin/python -m training --help`

chaos: $(VENV)/.test ## a thousand jobs while processes are killed at random; prints one JSON object
	@$(BIN)/python -m tests.chaos.chaos $(CHAOS_ARGS)

load: $(VENV)/.test ## throughput against workers and engine, answers, and three times too much; prints JSON
	@$(BIN)/python -m tests.performance.scale $(LOAD_ARGS); scaled=$$?; \
	$(BIN)/python -m tests.performance.load && exit $$scaled

bench: $(VENV)/.test ## print one JSON object of measured figures
	@$(BIN)/python -m tests.performance.bench

schemathesis: $(VENV)/.test ## hold a whole service to its OpenAPI document with 5,000 made-up requests
	@$(BIN)/python -m tests.integration.contract --cases 5000

audit: $(VENV)/.test ## look the installed packages up among the known vulnerabilities
	$(BIN)/python -m pip_audit --skip-editable --strict

clean: ## remove the virtual environment, caches and demo/; trained runs/ stay
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find app models tests training workers -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.cpu: EXTRAS = cpu
$(VENV)/.training: EXTRAS = cpu,training
$(VENV)/.test: EXTRAS = cpu,oidc,otel,training,test

$(VENV)/.cpu $(VENV)/.training $(VENV)/.test: pyproject.toml | $(VENV)/.created
	@echo "Installing contrafact[$(EXTRAS)] into $(VENV); the first time this takes a while." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Contrafact needs Python 3.11 or newer; name one, for instance: make demo PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
