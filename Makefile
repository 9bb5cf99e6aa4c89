# The commands of the README. Everything lives in .venv; nothing else of the machine is touched.
PYTHON ?= python3
PROFILE ?= demo
RAW ?=
BIN := .venv/bin
UV_VERSION := 0.13.9

# Some containers forbid Python to keep compiled modules: every job and test would compile torch's again, for 6 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test lint reproduce real clean

setup: .venv/.done

# pip installs uv, uv installs the exact versions and hashes of the lock (a minute instead of ten).
.venv/.done: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "cmcgns needs Python 3.11 to 3.13; name one with: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/cmcgns reproduce --profile demo

reproduce: setup
	$(BIN)/cmcgns reproduce --profile $(PROFILE) $(if $(RAW),--raw $(RAW))

# For the developers: the small real corpus beside the project (not part of the repository), laid out in the raw formats; its images stay where they are.
real: setup
	test -e data/real/raw || $(BIN)/python ../shared/realdata/make_layout.py --tier core --out data/real/raw
	$(BIN)/cmcgns reproduce --profile real

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

# What the demo made; the environment and other profiles stay.
clean:
	rm -rf data/demo results/demo logs/demo
