# `make simulate` and `make test` set up what they need in VENV, again only when pyproject.toml has changed.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
RUN := $(VENV)/bin/python -m

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help simulate demo test test-slow coverage lint types docs clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'variables: ARGS="..." goes to the command; VENV=FOLDER (now $(VENV)); PYTHON=python3.12 (now $(PYTHON))'

simulate: $(VENV)/.ready ## run a simulation: make simulate ARGS="ml-1m-dp --set privacy.epsilon=3"
	@$(VENV)/bin/fedrec simulate $(ARGS)

demo: $(VENV)/.ready-demo ## show a federation on this machine as a web page
	@$(VENV)/bin/fedrec demo $(ARGS)

PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) pytest -n auto --maxprocesses 8

test: $(VENV)/.ready-test ## run the quick tests, a process a core: make test ARGS="tests/core -k ranks"
	@$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(VENV)/.ready-test ## run the tests that take longer than 10 seconds
	@$(PYTEST) -m slow --dist worksteal $(ARGS)

coverage: $(VENV)/.ready-test ## run the quick tests and list the lines of the packages that none of them reaches
	@$(PYTEST) -m "not slow" --cov --cov-report=term-missing:skip-covered --cov-report=xml:coverage.xml $(ARGS)

lint: $(VENV)/.ready-dev ## check the style and the formatting
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

types: $(VENV)/.ready-dev ## check the types
	@$(RUN) mypy

docs: $(VENV)/.ready-docs ## build the documentation into site/; a broken link or name is an error
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet $(ARGS)

clean: ## remove the virtual environment
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ...' >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml | $(VENV)/bin/python
	@echo 'Installing fedrec[simulate] into $(VENV), once; this can take some minutes.'
	@$(RUN) pip install --quiet --editable '.[simulate]'
	@touch $@

$(VENV)/.ready-%: pyproject.toml | $(VENV)/bin/python
	@echo 'Installing fedrec[$*] into $(VENV), once; this can take some minutes.'
	@$(RUN) pip install --quiet --editable '.[simulate,$*]'
	@touch $@ $(VENV)/.ready
