# Everything runs in .venv, which setup.sh makes on first use. See `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format sim formal mutate fuzz timing bitstreams bench crash memory docs lock clean

PYTHON := .venv/bin/python

help: ## list the targets
	@echo "Tickgate. Each target sets up what it needs first (.venv, system packages)."
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## only the set-up
	@./setup.sh

demo: setup ## generate a capture and replay it through the simulated card, the gateway and the journal
	@.venv/bin/tickgate demo

test: lint ## lint, then all tests, on all cores (ARGS="-k ring -x" goes to pytest)
	@$(PYTHON) -m pytest -n auto --dist loadfile $(ARGS)

lint: setup ## formatting, lint rules and types
	@.venv/bin/ruff format --check || { echo "These need 'make format'."; exit 1; }
	@.venv/bin/ruff check
	@$(PYTHON) -m mypy

format: setup ## rewrite the files as the formatter wants them
	@.venv/bin/ruff format
	@.venv/bin/ruff check --fix

sim: setup ## cocotb benches of the RTL (BENCH=fix_parser for one, WAVES=1 for waves)
	@$(PYTHON) -m sim.run $(if $(BENCH),--bench $(BENCH)) $(if $(filter-out 0,$(WAVES)),--waves)

formal: setup ## prove what formal/ states (ONLY=fix_parser DEPTH=20 goes deeper)
	@$(PYTHON) -m formal.run $(if $(ONLY),--only '$(ONLY)') $(if $(DEPTH),--depth '$(DEPTH)')

mutate: setup ## seed faults and see that proofs and benches find them (ONLY=text for some)
	@$(PYTHON) -m formal.mutations $(if $(ONLY),--only '$(ONLY)')

timing: ## synthesize and place the blocks, write build/timing.json (BLOCK=fix_parser WIDTH=64 SEEDS=1 for one quickly)
	@./setup.sh boards
	@$(PYTHON) -m bitstreams.timing $(if $(BLOCK),--block '$(BLOCK)') $(if $(WIDTH),--width $(WIDTH)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(filter-out 0,$(DOCS)),--docs)

bitstreams: ## build what is stale in bitstreams/ (BOARD=icebreaker for one, ANEW=1 for all that is asked for)
	@./setup.sh boards
	@$(PYTHON) -m bitstreams.make $(if $(BOARD),--board '$(BOARD)') $(if $(filter-out 0,$(ANEW)),--anew)

fuzz: setup ## generated and mutated packets through both cards (MINUTES=1), what differs is kept as a test
	@$(PYTHON) -m tests.cards.fuzz $(if $(MINUTES),--minutes '$(MINUTES)')

bench: setup ## measure against peers, write build/bench.json
	@$(PYTHON) -m host.bench

crash: setup ## kill the gateway's processes under load, 100 times (KILLS=10), and check that nothing is lost or done twice
	@$(PYTHON) -m host.trials.crash $(if $(KILLS),--kills '$(KILLS)')

memory: setup ## whether the gateway's memory stays flat under load for ten minutes (MINUTES=1)
	@$(PYTHON) -m host.trials.memory $(if $(MINUTES),--minutes '$(MINUTES)')

docs: setup ## write the pages of docs/ that are made from tables in hdl/ and host/
	@$(PYTHON) -m host.pages

lock: ## write requirements.lock anew from pyproject.toml
	@./setup.sh lock

clean: ## remove what was built (.venv stays: rm -rf .venv)
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find hdl host sim tests -name __pycache__ -type d -prune -exec rm -rf {} +
