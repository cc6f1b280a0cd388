# `make help` lists what there is. `make check` is what CI runs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PYTHONDONTWRITEBYTECODE ?=
TOOLS := .tools
# uv may be missing on a fresh machine: it is then installed from PyPI into .tools, touching nothing else.
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --frozen
BOOTSTRAP := $(if $(filter $(TOOLS)/bin/uv,$(UV)),$(TOOLS)/bin/uv)
NODE_SDK := tests/node/node_modules/.package-lock.json

.PHONY: help setup format lint typecheck test test-unit test-contract test-integration test-chaos docs check serve demo bench soak clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(TOOLS)/bin/uv:
	@echo "uv is not installed; putting it into $(TOOLS)/"
	@python3 -m venv $(TOOLS) && $(TOOLS)/bin/python -m pip install --quiet uv

setup: $(BOOTSTRAP) ## install everything for development, locked
	@$(UV) sync --frozen --quiet --group dev

format: setup ## format the code and fix what ruff can fix
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

lint: setup ## formatting, style, import contracts, spelling, lock file
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) lint-imports
	$(RUN) codespell src tests docs bench scripts *.md
	$(UV) lock --check

typecheck: setup ## mypy, strict, on source and tests
	$(RUN) mypy

$(NODE_SDK): tests/node/package.json tests/node/package-lock.json
	cd tests/node && npm ci --no-audit --no-fund --silent

test: setup $(NODE_SDK) ## every test that CI runs, setting up what it needs
	$(RUN) pytest -n 2 --dist loadfile tests

test-unit: setup ## no sockets, no sleeps
	$(RUN) pytest tests/unit

test-contract: setup ## public contract suites, documents, examples
	$(RUN) pytest tests/contract

test-integration: setup $(NODE_SDK) ## the running gateway over HTTP
	$(RUN) pytest tests/integration

test-chaos: setup ## dying providers, killed workers, cut connections
	$(RUN) pytest tests/chaos

docs: setup ## regenerate the reference pages, .env.example and the JSON schema
	$(RUN) python scripts/generate_docs.py
	$(RUN) python scripts/generate_providers.py
	$(RUN) python scripts/generate_strategies.py

check: lint typecheck docs test ## what CI runs: everything, then no generated file may differ
	@git diff --exit-code --stat -- docs config .env.example || (echo "generated files were stale: commit them" && exit 1)

serve: $(BOOTSTRAP) ## a local gateway on the simulator
	$(UV) run --frozen --no-dev --quiet routeiq demo --no-tour

demo: $(BOOTSTRAP) ## the guided tour; needs no key
	@$(UV) run --frozen --no-dev --quiet routeiq demo

bench: setup ## overhead against a direct call, in the same run
	$(UV) run --frozen --group bench python -m bench

soak: setup ## 1,000 concurrent requests for five minutes: leaks, stalls
	$(UV) run --frozen --group bench python -m bench soak

clean: ## remove what the targets made
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist tests/node/node_modules
