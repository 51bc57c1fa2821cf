# `make demo` and `make test` are all it takes; each installs what it needs into .venv, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Every test runs on one thread; more processes than this only load the libraries more often.
# The tests of a file stay together: they share what takes long to make.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# Those that take long as well, and those of `make check`.
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

# Every fault as often as it takes to believe in it; writes the table in CONTRIBUTING.md.
# Thousands of cases are one test, which may take its time.
faults: $(INSTALLED)
	SIA_GEN_FAULTS=all $(BIN)/python -m pytest $(PARALLEL) --dist worksteal --timeout 3600 $(ALL) \
		tests/faults tests/checks

# Known vulnerabilities of all that is installed; it asks PyPI, and fails for what PyPI does not know.
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
