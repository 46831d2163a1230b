# Every target does its own set-up: Python 3.11 or newer and make are all it needs (the tests fetch Chromium, too).
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
READY := .venv/.ready
BROWSER := scripts/browser
BIN := .venv/bin
WORKERS := $(shell expr \( 3 \* $$(getconf _NPROCESSORS_ONLN) + 1 \) / 2)# a third of a worker's time is waiting
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal --quiet --durations 5 --durations-min 1
TOOLS := build/tools
export DATA
unexport PYTHONDONTWRITEBYTECODE# where it is set, every command that a test starts would compile heedful again

.PHONY: help setup demo recipes test test-scale test-vllm test-ray fast check siege docs format lock audit mutants clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements.lock requirements-torch.lock pyproject.toml scripts/setup
	@scripts/setup $@

setup: $(READY)  ## create .venv from requirements.lock (the other targets do it themselves)
	@:

demo: $(READY)  ## the whole loop in the sandbox, report in demo/; make demo QUICK=1 takes two minutes
	@$(BIN)/heedful demo $(if $(QUICK),--quick --out demo-quick,--out demo)

recipes: $(READY)  ## both recipes on real data: make recipes DATA=/folder/of/the/public/data
	@recipes/tldr/run && recipes/convarg/run

test: $(READY)  ## the whole test suite
	@$(BROWSER)
	@$(PYTEST)

fast: $(READY)  ## the tests that take less than about a second
	@$(BROWSER)
	@$(PYTEST) -m "not slow and not medium"

test-scale: $(READY)  ## shards in every stage on two and four ranks, with kills and other numbers of ranks
	@HEEDFUL_TEST_SCALE=1 $(BIN)/python -m pytest --quiet -rs --durations 5 tests/scale

test-vllm: $(READY)  ## tests against a real vLLM on the CPU, which it installs (3.5 GB)
	@VLLM_PYTHON=$$(scripts/vllm || true) && export VLLM_PYTHON && $(BIN)/python -m pytest --quiet -rs tests/vllm

test-ray: $(READY)  ## tests on a Ray cluster of this machine, which it installs (300 MB)
	@RAY_PYTHON=$$(scripts/ray || true) && export RAY_PYTHON && $(BIN)/python -m pytest --quiet -rs tests/on_ray

check: $(READY)  ## lint, format, types, architecture and the fast tests
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run 'make format'" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BROWSER)
	@$(PYTEST) -m "not slow and not medium"

siege: $(READY)  ## attacks on app and runs, with a table; FULL=1 takes an hour, ONLY="NAME ..." picks some, RESUME=1 goes on
	@$(BROWSER)
	@PYTHONPATH=src:tests $(BIN)/python -m siege $(if $(FULL),--full) $(if $(RESUME),--resume) $(if $(PAGE),--page) $(if $(MINUTES),--minutes $(MINUTES)) $(ONLY)

docs: $(READY)  ## the pages of docs/ as a site with search and a Python reference, in build/site
	@$(BIN)/python scripts/pages.py
	@$(BIN)/python -m zensical build --strict --config-file mkdocs.yml >/dev/null
	@echo build/site/index.html

format: $(READY)  ## format the code and mend what the linter can
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .

lock: $(READY)  ## write requirements.lock with hashes; make lock NEWEST=1 takes the newest versions that pyproject.toml allows
	@$(BIN)/python -m pip install --quiet --upgrade --target $(TOOLS) uv
	@PYTHONPATH=$(TOOLS) $(BIN)/python scripts/lock.py $(if $(NEWEST),--newest)

audit: $(READY)  ## look up known vulnerabilities of everything in requirements.lock; needs a network
	@$(BIN)/python scripts/audit.py
	@$(BIN)/python -m pip install --quiet --upgrade --target $(TOOLS) pip-audit
	@PYTHONPATH=$(TOOLS) $(BIN)/python -m pip_audit --strict --progress-spinner off --disable-pip --require-hashes -r requirements.lock
	@PYTHONPATH=$(TOOLS) $(BIN)/python -m pip_audit --strict --progress-spinner off --disable-pip --no-deps -r requirements-torch.lock

mutants: $(READY)  ## plant mistakes in a copy of the core and list those that no test finds, in at most 30 minutes
	@$(BIN)/python scripts/mutants.py

clean:  ## remove .venv and caches
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis src/heedful.egg-info build
