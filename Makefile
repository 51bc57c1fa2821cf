# Each target installs what it needs into .venv on first use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Every test runs on one thread, and some wait for other processes, so one more than there are cores.
# Above eight they only import the libraries more often.
PROCESSES := $(shell $(PYTHON) -c 'import os; print(min(8, os.cpu_count() + 1))')
# The tests of a file run in one process, because they share fixtures that are slow to make.
PARALLEL := --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
# Includes slow tests and those of `make check`.
ALL := -m ''

.PHONY: demo test test-all check test-end-to-end faults audit clean

demo: $(INSTALLED)
	$(BIN)/sia-gen demo --out demo

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) $(ALL)

test-end-to-end: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) $(ALL) tests/end_to_end

# Injects every fault many times, and writes the table in docs/faults.md. A single test may have
# thousands of cases, so its timeout is long.
faults: $(INSTALLED)
	SIA_GEN_FAULTS=all $(BIN)/python -m pytest $(PARALLEL) --dist worksteal --timeout 3600 $(ALL) \
		tests/faults tests/checks

# Asks PyPI for known vulnerabilities of all installed packages; fails for packages it does not know.
audit: $(INSTALLED)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/audit/installed.txt
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r $(VENV)/audit/installed.txt

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m check tests/checks

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV)
