PYTHON ?= python3
BIN := .venv/bin
FIRST := notebooks/01_sampling_from_a_gaussian.ipynb
# JupyterLab refuses to run as root, as in a container, unless told.
LABFLAGS ?= $(if $(filter 0,$(shell id -u)),--allow-root)
BENCHMARKS := $(filter-out common peers summary device_%,$(basename $(notdir $(wildcard tests/benchmarks/*.py))))
TRY := $(if $(QUICK),--quick)
# Tests work on tiny tensors, for which a second thread costs more than it brings.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
# The tests of the modules that lie directly in ddpm_core/, and of the arrows between them.
HEART := $(wildcard $(patsubst ddpm_core/%.py,tests/test_%.py,$(wildcard ddpm_core/*.py))) tests/test_architecture.py
# Notebooks are read in narrower windows than the package.
PACKAGE_STYLE := --extend-exclude notebooks .
NOTEBOOK_STYLE := --line-length 100 notebooks

.PHONY: help setup lab quick unit slow nbval browser test course notebooks lint bench gpu wheels links offline clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## the environment, in .venv (does nothing when it is ready)
	@$(PYTHON) tools/setup.py

# Stored HTML keeps its colours only in a trusted notebook. In the background, as signing takes two seconds.
lab: setup  ## opens JupyterLab on notebook 01
	@[ .venv/trusted -nt notebooks ] || { nice $(BIN)/jupyter trust -y notebooks/0*.ipynb && touch .venv/trusted; } >/dev/null 2>&1 &
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/jupyter lab $(LABFLAGS) --LabApp.default_url=/lab/tree/$(FIRST)

quick: setup  ## tests the heart against diffusers and closed forms (30 seconds)
	$(PYTEST) -q -m "not slow" $(HEART)

unit: setup  ## every fast test of the package and the tools (4 minutes)
	$(PYTEST) -m "not slow" --ignore tests/browser tests

slow: setup  ## the tests that kill processes, start several, or install
	$(PYTEST) -m slow --ignore tests/browser tests

nbval: setup  ## runs every notebook and compares its facts with the stored ones
	DDPM_PROGRESS= $(BIN)/pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=600 notebooks

browser: setup  ## runs every notebook in a browser, with other settings and hands on the widgets
	$(BIN)/pytest tests/browser

test: nbval unit slow browser  ## every test there is: all of the four above

course: setup  ## runs every notebook; executed copies and a gallery in build/
	$(BIN)/python tools/notebooks.py course

notebooks: setup  ## the same, and stores the outputs in notebooks/
	$(BIN)/python tools/notebooks.py renew
	$(BIN)/ruff format $(NOTEBOOK_STYLE)

lint: setup  ## style of code and notebooks
	$(BIN)/ruff check $(PACKAGE_STYLE)
	$(BIN)/ruff check $(NOTEBOOK_STYLE)
	$(BIN)/ruff format --check $(PACKAGE_STYLE)
	$(BIN)/ruff format --check $(NOTEBOOK_STYLE)

bench: setup  ## speed and memory beside other libraries; ONLY=training_speed runs one, QUICK=1 tries them
	@$(BIN)/python -c "import importlib.metadata as m; m.version('denoising-diffusion-pytorch')" 2>/dev/null \
		|| $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]' \
		|| echo "going on without the peers that could not be installed"
	for name in $(or $(ONLY),$(BENCHMARKS)); do $(BIN)/python tests/benchmarks/$$name.py $(TRY) || exit; done
	$(BIN)/python tests/benchmarks/summary.py $(TRY)

gpu: setup  ## all of it on this machine's graphics card: notebooks, tests, speed, training (8 minutes)
	$(BIN)/python tools/gpu.py

wheels: setup  ## what a machine with a card and without a network lacks, less than 15 MB (build/wheels)
	$(BIN)/python tools/gpu.py --fetch-wheels build/wheels

links: setup  ## REPO=owner/name on GitHub: "Open in Colab" badges; REPO= takes them out
	@$(BIN)/python tools/links.py $(if $(filter command line,$(origin REPO)),"$$REPO")

offline: setup  ## the course on a stick, for a room without a network (build/offline)
	@$(BIN)/python tools/offline.py

clean:  ## removes the environment and everything built
	rm -rf .venv build .pytest_cache .ruff_cache
