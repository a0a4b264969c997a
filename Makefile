PYTHON ?= python3
BIN := .venv/bin
FIRST := notebooks/01_sampling_from_a_gaussian.ipynb
# JupyterLab refuses to run as root, as in a container, unless told.
LABFLAGS ?= $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help setup lab test unit nbval course notebooks lint bench clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## the environment, in .venv (does nothing when it is ready)
	@$(PYTHON) .ci/setup.py

lab: setup  ## opens JupyterLab on notebook 01
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/jupyter lab $(LABFLAGS) --LabApp.default_url=/lab/tree/$(FIRST)

test: unit nbval  ## every test: first the package, then every notebook

unit: setup
	$(BIN)/pytest tests

nbval: setup
	$(BIN)/pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks

course: setup  ## runs every notebook; executed copies and a gallery in build/
	$(BIN)/python .ci/notebooks.py course

notebooks: setup  ## the same, and stores the outputs in notebooks/
	$(BIN)/python .ci/notebooks.py renew
	$(BIN)/ruff format notebooks

lint: setup  ## style of code and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: setup  ## speed, as ratios
	for benchmark in tests/benchmarks/*.py; do $(BIN)/python $$benchmark || exit; done

clean:  ## removes the environment and everything built
	rm -rf .venv build .pytest_cache .ruff_cache
