# Two commands: `make demo` sets up all it needs and shows picom at work; `make test` sets up
# and runs every test. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
export PICOM_NATS_SERVER := $(CURDIR)/$(VENV)/bin/nats-server
NODE_DIR := bindings/node
STEP := @scripts/step

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- Setting up -----------------------------------------------------------------------------

.PHONY: toolchains
toolchains:
	@scripts/check-toolchains

$(VENV)/.installed: tests/requirements.txt | toolchains
	$(STEP) "nats-server and the test tools, into $(VENV)" scripts/make-venv $(PYTHON) $(VENV)
	@touch $@

$(NODE_DIR)/node_modules/.installed: $(NODE_DIR)/package-lock.json | toolchains
	$(STEP) "the Node package's development tools" npm ci --silent --prefix $(NODE_DIR)
	@touch $@

STANDINS := tests/conformance/standins
$(STANDINS)/node_modules/.installed: $(STANDINS)/package-lock.json | toolchains
	$(STEP) "the client library of the level 0 stand-in" npm ci --silent --prefix $(STANDINS)
	@touch $@

.PHONY: node
node: | toolchains ## Build the Node package and the Rust programs
	$(STEP) "the Node package and the Rust programs" node $(NODE_DIR)/scripts/build.js

.PHONY: setup
setup: $(VENV)/.installed $(NODE_DIR)/node_modules/.installed $(STANDINS)/node_modules/.installed node ## Install and build everything

# --- The main job ---------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.installed node ## Set up, and show Node and Rust calling each other
	@scripts/demo

# --- Tests ----------------------------------------------------------------------------------

.PHONY: test
test: begin-steps setup lint test-rust test-node test-conformance test-readme ## Set up and run every test
	@scripts/step --summary

.PHONY: begin-steps
begin-steps:
	@scripts/step --begin

.PHONY: lint
lint:
	$(STEP) "rustfmt" cargo fmt --all --check
	$(STEP) "clippy" cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(STEP) "rustdoc" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

.PHONY: test-rust
test-rust: $(VENV)/.installed
	$(STEP) "Rust tests" cargo test --workspace --quiet -- --show-output

.PHONY: test-node
test-node: $(VENV)/.installed $(NODE_DIR)/node_modules/.installed node
	$(STEP) "Node tests" npm test --silent --prefix $(NODE_DIR)

.PHONY: test-conformance
test-conformance: $(VENV)/.installed $(STANDINS)/node_modules/.installed node
	$(STEP) "conformance" $(VENV)/bin/pytest -q tests/conformance

.PHONY: test-readme
test-readme: $(VENV)/.installed node
	$(STEP) "the README's programs" $(VENV)/bin/pytest -q tests/readme

# --- Measuring ------------------------------------------------------------------------------

bench/node/node_modules/.installed: bench/node/package-lock.json | toolchains
	$(STEP) "the peers that the bench measures" npm ci --silent --prefix bench/node
	@touch $@

.PHONY: bench
bench: $(VENV)/.installed bench/node/node_modules/.installed node ## Measure picom beside its peers (under 10 minutes)
	$(PYTHON) bench/run.py

.PHONY: bench-full
bench-full: $(VENV)/.installed bench/node/node_modules/.installed node ## The same at all sizes (under 40 minutes)
	$(PYTHON) bench/run.py --full

.PHONY: bench-scale
bench-scale: $(VENV)/.installed bench/node/node_modules/.installed node ## The cost as callers, instances, methods and bodies grow (3 minutes)
	$(PYTHON) bench/scale.py

# --- Longer checks --------------------------------------------------------------------------

.PHONY: check-deep
check-deep: setup ## Long forms: many more fault schedules
	$(STEP) "fault schedules" env PICOM_SCHEDULES=50 cargo test --release --quiet -p picom-core --lib the_contract_holds_in_every_schedule

.PHONY: clean
clean: ## Remove what was built and installed
	rm -rf target $(VENV) $(NODE_DIR)/node_modules $(STANDINS)/node_modules bench/node/node_modules $(NODE_DIR)/*.node
