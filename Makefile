# Needs Python 3.11 or newer, make, and a way to the package registries; everything goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test lint bench settings constraints clean system
MAKEFLAGS += --no-print-directory

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Tests start hundreds of processes: what they import is compiled once.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
# The newest of these that is new enough; name another with PYTHON=.
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$each; break; }; done)

help: ## this list
	@echo 'make run [ARGS="--listen --port 8080"]   frontend and worker on this machine: http://127.0.0.1:8188'
	@echo 'make test [ARGS="-k queue"]              style, types and tests, with what they need'
	@echo
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: .venv/worker ## start the all-in-one; files in workspace/, flags in ARGS
	@exec $(BIN)/comfyui --cwd workspace $(ARGS)

test: .venv/test lint system ## lint, then all tests; artefacts/ gets the report and screenshots
	@mkdir -p artefacts
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --junitxml=artefacts/pytest.xml $(ARGS)

lint: .venv/test ## style (ruff) and types (mypy)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict comfy_dist

bench: .venv/test ## figures beside their yardsticks
	@$(BIN)/python -m benchmarks $(ARGS)

settings: .venv/worker ## write docs/settings.md from comfy_dist.settings
	@$(BIN)/python docs/settings.py

constraints: ## resolve every package anew into constraints.txt (torch and page packages stay as pinned there)
	@PYTHON="$(PYTHON)" tools/constraints

clean: ## remove .venv, caches and artefacts; workspace/ stays
	@rm -rf .venv build dist *.egg-info artefacts .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# RabbitMQ and Chromium.
system:
	@tools/system-packages

# Stamps: installed again when what is wanted has changed.
.venv/worker: .venv/made pyproject.toml constraints.txt
	@echo 'Installing comfy_dist into .venv; the first time this takes minutes (torch) ...'
	@$(BIN)/pip install --quiet -c constraints.txt -e '.[worker]'
	@touch $@

.venv/test: .venv/worker
	@echo 'Installing what the tests need ...'
	@$(BIN)/pip install --quiet -c constraints.txt -e '.[worker,test]'
	@touch $@

.venv/made:
	@tools/make-venv '$(PYTHON)' .venv
	@touch $@
