# Two commands matter: `make run` and `make test`. Both install what they need first.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Where the platform listens and keeps its data:  make run PORT=9090 DATA=/srv/meshwright
PORT ?= 8080
DATA ?= .meshwright

# Tests wait more than they work: half as many processes again as there are cores. With twice as many
# the whole takes as long, and what is waited for comes late.
WORKERS ?= $(shell echo $$(( ($$(nproc) * 3 + 1) / 2 )))

# Tests start hundreds of processes: with it, each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
SERVERS := meshwright_common.testing.servers

.PHONY: help setup run test engines engines-down lint types protos protos-check infra-check sbom lock bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the platform and everything that its tests and checks need
	@infra/dev/setup.sh dev

run: ## Install what the platform needs and start it  [PORT=8080] [DATA=.meshwright]
	@infra/dev/setup.sh run
	@exec $(BIN)/meshwright up --port "$(PORT)" --data "$(DATA)"

test: setup lint types protos-check infra-check ## Run every check and every test
	@infra/dev/documents.sh >/dev/null
	@infra/dev/engines.sh
	@$(BIN)/python -m $(SERVERS) run -- $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

engines: setup ## Start Kafka, RabbitMQ … on the loopback and say where they are
	@infra/dev/engines.sh
	@$(BIN)/python -m $(SERVERS) up

engines-down: ## Stop them and delete their data
	@$(BIN)/python -m $(SERVERS) down

lint: setup ## Check style, layers, shell scripts; change nothing
	@infra/dev/lint.sh

types: setup ## Check types (mypy, strict)
	@infra/dev/types.sh

protos: setup ## Format the protos; generate their Python stubs and docs/events
	@"$$(infra/dev/buf.sh)" format --write protos
	@"$$(infra/dev/protoc.sh)" protos/generate.py
	@$(BIN)/python -m protos.event_documents

protos-check: setup ## Check the protos: lint, format, no breaking change
	@infra/dev/protos_check.sh

infra-check: setup ## Check images, manifests, modules, rules without a cluster
	@set -e; shopt -s nullglob; for check in infra/dev/check_*.sh; do "$$check"; done

sbom: setup ## Write a bill of materials of what is locked (CycloneDX)  [SBOM=meshwright.cdx.json]
	@infra/dev/sbom.sh "$(or $(SBOM),meshwright.cdx.json)"

lock: setup ## Compile requirements/*.txt anew from the pyproject.toml files
	@infra/dev/lock.sh

bench: setup ## Measure: ready time, time to first token, rates (see bench/)
	@$(BIN)/python -m bench run

clean: ## Delete the environment and the caches of the tools; keep the data
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage htmlcov
	@find . -name __pycache__ -prune -exec rm -rf {} +
