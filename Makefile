# Each command sets everything up in .venv, on a machine that has Python and make, and then does it.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: train test slow coverage docs results lint types format versions

train: $(VENV)/ready
	$(BIN)/orderdp train

# Without the tests that take more than ten seconds each.
test: lint types
	$(BIN)/pytest -n 2 -m "not slow"

# Those alone: whole studies, kills and restarts, the site, the wheel.
slow: $(VENV)/ready
	$(BIN)/pytest -n 2 -m slow

# Doubles the time of the tests.
coverage: $(VENV)/ready
	$(BIN)/pytest -n 2 --cov --cov-report=term --cov-fail-under=95

docs: $(VENV)/ready
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet docs build/docs
	@echo "build/docs/index.html"

# All tables in results/ and in the documents, from the archives of the runs.
results: $(VENV)/ready
	for archive in $$(find results -name runs.jsonl.xz | sort); do \
		$(BIN)/orderdp report $$archive --tables $$(dirname $$archive)/tables.md || exit 1; \
	done
	$(BIN)/orderdp paper --size cpu --archives results --page docs/paper.md
	$(BIN)/python tools/embed_tables.py

lint: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/ready
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Python 3.10 with torch 2.4 and Python 3.13 with the newest; downloads several GB (see the script).
versions:
	tests/versions.sh

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	-$(BIN)/python -m compileall -q -j 0 -x /tests/ $(VENV)/lib  # as pip would, but on all cores
	touch $@
