# Two commands do all the set-up: `make demo` and `make test`. Everything lives in .venv; `make clean` removes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --retries 10 --timeout 120

.PHONY: demo test check lint types imports schema unit bench clean

# Streams a year of flights through a broker that is killed half-way, and compares with the CSV.
demo: $(VENV)/.demo
	@$(BIN)/python -m riverlog.demo

# Every check and every test; the last line is pytest's. The same as .ci/run.
test: check unit

check: lint types imports schema

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

# Against Apache Kafka on this machine; prints the table and writes benchmarks/results/.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.macro

# $(call install,EXTRA): three times, because downloads fail.
define install
	@echo "installing riverlog[$(1)] into $(VENV) …"
	@for attempt in 1 2 3; do \
	    $(PIP) install --quiet -e '.[$(1)]' && exit 0; \
	    echo "attempt $$attempt of 3 failed" >&2; sleep 5; \
	done; exit 1
	@touch $@
endef

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "riverlog needs Python 3.11 or newer: name one, as in make PYTHON=python3.12 demo" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

BUILT_FROM := pyproject.toml src/riverlog/kernels/compiled.pyx

$(VENV)/.demo: $(BUILT_FROM) | $(VENV)/bin/python
	$(call install,demo)

$(VENV)/.dev: $(BUILT_FROM) | $(VENV)/bin/python
	$(call install,dev)
	@touch $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info src/riverlog/kernels/compiled.c src/riverlog/kernels/*.so
