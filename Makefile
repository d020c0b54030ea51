# Every target does its own set-up: a virtual environment in .venv with the pinned packages of requirements.lock.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
# the tests start a hundred processes of this project: its files are compiled once
unexport PYTHONDONTWRITEBYTECODE
READY := .venv/.ready

.PHONY: help demo demo-av ablate test test-slow lint format clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"tamis needs Python 3.11 to 3.13; {sys.executable} is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11 ...")'
	@echo "setting up .venv: about 8 GB, a few minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)   ## the main job on real pictures: corpus, curation, training, evaluation, report
	$(BIN)/python infra/demo/demo.py

demo-av: $(READY) ## the same for films: links to segments of video, audio and text, scored against how they were made
	$(BIN)/python infra/demo/demo_av.py

ablate: $(READY) ## does curation help? the demo's dirty pool against what is kept of it, three seeds (10 minutes)
	$(BIN)/python infra/demo/ablate.py

lint: $(READY)   ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

# what is tested is small: a second thread would only take the CPU of another worker
test: export OMP_NUM_THREADS = 1
test: $(READY) lint   ## the tests (.ci/run calls this)
	$(BIN)/pytest -m "not slow" -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)   ## the tests that take long
	$(BIN)/pytest -m slow

format: $(READY)   ## ruff's formatter and fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:           ## removes the environment and the demo
	rm -rf .venv demo build *.egg-info
