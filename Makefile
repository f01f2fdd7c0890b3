# `make demo` and `make test` do all set-up themselves, in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
# One process a core; each computes with one thread (tests/conftest.py).
PARALLEL := -n auto --dist worksteal
PINS   := pyproject.toml constraints.txt

.PHONY: demo test coverage lint docs clean

demo: $(VENV)/.core
	$(BIN)/draper demo -o demo --overwrite

test: lint
	$(BIN)/python -m pytest $(PARALLEL)

coverage: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term --cov-report=html
	@echo "htmlcov/index.html"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) demo docs/_build htmlcov .coverage

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "draper needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
		then apt-get update -qq && apt-get install -y -qq python3-venv; \
		else echo "Python lacks its venv module; on Debian: sudo apt-get install python3-venv"; exit 2; fi
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(PINS) | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(PINS) | $(BIN)/python
	$(PIP) -e '.[dev,all]'
	@touch $@ $(VENV)/.core

$(VENV)/.docs: $(PINS) | $(BIN)/python
	$(PIP) -e '.[dev,all,docs]'
	@touch $@ $(VENV)/.dev $(VENV)/.core
