# Everything a contributor or a new user runs. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= auto

.PHONY: help venv lab-tools image demo test test-unit lint format bench fuzz clean clean-host

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml
	@bash tools/make-venv $(PYTHON) $(VENV)
	@touch $@

venv: $(VENV)/.ready ## the virtual environment in .venv, with netdiag and its tests' tools

lab-tools: venv ## Debian packages for the lab, unpacked below .lab (nothing is installed or started)
	@$(BIN)/netdiag lab install

image: venv ## the container image, for hosts without Python 3.11: a file for docker load in dist (FRESH=1: newest packages)
	@$(BIN)/python -m tools.image $(if $(FRESH),--fresh)

demo: lab-tools ## two stories, from fault to healed: a join that times out, a ping that works while ssh hangs
	@$(BIN)/netdiag lab demo

lint: venv ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv ## lay the code out
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: venv ## all tests, those with real engines included (root)
	@$(BIN)/netdiag lab install || echo "no lab on this machine: its tests will be skipped, with their reason" >&2
	$(BIN)/pytest -n $(JOBS) --dist loadfile --floor

test-unit: venv ## the tests that need neither root nor engines
	$(BIN)/pytest -n $(JOBS) -m 'not lab'

bench: lab-tools ## measured figures beside their budgets
	$(BIN)/python -m tests.bench

SECONDS ?= 300
fuzz: venv ## readers of rule sets fuzzed with atheris, which gets a virtual environment of its own (SECONDS=300 for each)
	@test -d .fuzz/venv || $(PYTHON) -m venv .fuzz/venv
	@.fuzz/venv/bin/python -c 'import atheris' 2>/dev/null || .fuzz/venv/bin/pip install -q atheris -e .
	@for target in iptables ipset; do mkdir -p .fuzz/$$target && \
	cp -n tests/unit/firewall/netfilter/wild/*.save .fuzz/$$target && .fuzz/venv/bin/python -m tests.fuzz $$target \
	-max_total_time=$(SECONDS) -max_len=3000 -timeout=20 -artifact_prefix=.fuzz/$$target-failed- \
	-dict=tests/fuzz/words.dict .fuzz/$$target || exit 1; done

clean: ## the virtual environment, the lab's tools, the image and caches of this checkout
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(VENV) .lab .fuzz dist

clean-host: venv ## whatever a lab may have left on this machine
	@$(BIN)/netdiag lab down --all
