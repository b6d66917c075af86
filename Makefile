# Everything a fresh machine needs is Python 3.11 or newer and make; `make help` says what there is to do.

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# npm writes this file last.
WEB_INSTALLED := web/node_modules/.package-lock.json
WEB_BUILT := web/dist/index.html
# Folders too: a deleted file shows only there.
WEB_SOURCES := $(shell find web -mindepth 1 \( -path web/node_modules -o -path web/dist \) -prune -o -print 2>/dev/null)

.PHONY: help setup web demo test check api-types bench chaos clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo 'Arguments for demo, bench, chaos and test go in ARGS: make demo ARGS="--guilds 500"'

setup: $(INSTALLED) ## install the locked Python packages into .venv

# `uv run` is never used: Ray would set up an environment of its own for every worker.
$(INSTALLED): pyproject.toml uv.lock scripts/find-python.sh scripts/get-uv.sh
	@python=$$(scripts/find-python.sh) && uv=$$(scripts/get-uv.sh) && \
	UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(VENV) "$$uv" sync --locked --python "$$python"
	@touch $@

web: $(WEB_BUILT) ## build the dashboard into web/dist

$(WEB_INSTALLED): web/package.json web/package-lock.json | $(INSTALLED)
	scripts/npm.sh ci --no-audit --no-fund
	@touch $@

$(WEB_BUILT): $(WEB_SOURCES) $(WEB_INSTALLED)
	scripts/npm.sh run build
	@touch $@

demo: setup web ## start everything on this machine, with a simulated Discord
	@exec $(BIN)/guildhall demo $(ARGS)

check: setup $(WEB_INSTALLED) ## lint, format, types and the import contract, in Python and TypeScript
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docs/examples
	$(BIN)/lint-imports
	@$(BIN)/guildhall openapi | cmp -s - web/openapi.json || { echo "web/openapi.json is not this API's: run make api-types." >&2; exit 1; }
	scripts/npm.sh run check

api-types: setup $(WEB_INSTALLED) ## describe the API anew for the dashboard's types
	$(BIN)/guildhall openapi > web/openapi.json
	scripts/npm.sh run api-types

# Without a browser the end-to-end tests are skipped on a person's machine and an error in CI.
test: check web ## check, then every test, the browser's included
	scripts/npm.sh test
	@chromium=$$(scripts/get-chromium.sh) || { [ -z "$$CI" ] || exit 1; echo "The browser tests are skipped." >&2; }; \
	GUILDHALL_CHROMIUM="$$chromium" exec $(BIN)/pytest $(ARGS)

bench: setup web ## print every figure the documentation states
	@exec $(BIN)/guildhall bench all $(ARGS)

chaos: setup ## kill and freeze everything at random, and see whether anything is lost
	@exec $(BIN)/guildhall bench chaos $(ARGS)

clean: ## remove what was installed and built; data in .guildhall stays
	rm -rf $(VENV) .tools web/node_modules web/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
