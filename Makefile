PYTHON ?= python3
BIN := .venv/bin
FIRST := notebooks/01_sampling_from_a_gaussian.ipynb
# JupyterLab refuses to run as root, as in a container, unless told.
LABFLAGS ?= $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help setup lab test unit nbval browser course notebooks lint bench links offline clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## the environment, in .venv (does nothing when it is ready)
	@$(PYTHON) .ci/setup.py

lab: setup  ## opens JupyterLab on notebook 01
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/jupyter lab $(LABFLAGS) --LabApp.default_url=/lab/tree/$(FIRST)

test: unit nbval browser  ## every test: the package, every notebook, and every notebook in a browser

unit: setup
	$(BIN)/pytest --ignore tests/browser tests

nbval: setup
	DDPM_PROGRESS= $(BIN)/pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks

browser: setup
	$(BIN)/pytest tests/browser

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

links: setup  ## REPO=owner/name on GitHub: "Open in Colab" badges; REPO= takes them out
	@$(BIN)/python .ci/links.py $(if $(filter command line,$(origin REPO)),"$$REPO")

offline: setup  ## the course on a stick, for a room without a network (build/offline)
	@$(BIN)/python .ci/offline.py

clean:  ## removes the environment and everything built
	rm -rf .venv build .pytest_cache .ruff_cache
