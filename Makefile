# make run: set up and run a container.  make test: set up and pass the tests.  Both start from a fresh clone.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
.DEFAULT_GOAL := run

$(BIN)/kist: pyproject.toml setup.py $(wildcard launcher/*)
	tools/setup $(PYTHON) $(VENV)
	touch $@

run: $(BIN)/kist
	$(BIN)/kist run -i host sh < tools/proof.sh

test: $(BIN)/kist
	tests/run

check: $(BIN)/kist
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/gen_steps.py --check
	$(BIN)/python tools/gen_docs.py --check

generate: $(BIN)/kist
	$(BIN)/python tools/gen_steps.py
	$(BIN)/python tools/gen_docs.py

bench: $(BIN)/kist
	$(BIN)/python bench/start.py

fuzz: $(BIN)/kist
	$(MAKE) -C tests/fuzz

.PHONY: run test check generate bench fuzz
