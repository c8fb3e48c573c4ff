# Two commands do all the set-up: `make demo` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --retries 10 --timeout 120

.PHONY: demo test check lint types imports unit schema bench clean

demo: $(VENV)/.demo
	@$(BIN)/python -m riverlog.demo

test: $(VENV)/.dev check unit

check: $(VENV)/.dev lint types imports schema

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

schema: $(VENV)/.dev
	$(BIN)/python -m tools.kafka_schema --check

unit: $(VENV)/.dev
	$(BIN)/python -m pytest

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.macro

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml $(VENV)/bin/python src/riverlog/kernels/compiled.pyx
	@$(PIP) install --quiet -e '.[demo]' || { sleep 5; $(PIP) install --quiet -e '.[demo]'; }
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/bin/python src/riverlog/kernels/compiled.pyx
	@$(PIP) install --quiet -e '.[dev]' || { sleep 5; $(PIP) install --quiet -e '.[dev]'; }
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build *.egg-info src/*.egg-info src/riverlog/kernels/compiled.c src/riverlog/kernels/*.so
