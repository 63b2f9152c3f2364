# Each command does its own set-up, once: a virtual environment in .venv with everything in it.
#   make demo | test | run | lint | bench | train-brain-mri | train-ct | peers | clean
# Variables: PYTHON (3.11 or newer), VENV, ARGS (more arguments for the command), ONCE=1 (demo), CONFIG (run),
#            TORCH_INDEX (an index with the build of torch that you want), DATA (images to train on).

PYTHON ?= python3
VENV ?= .venv
DATA ?= ../shared/data
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := $(shell grep '^torch==' constraints.txt)
PEERS := orthanc dcmtk dicom3tools libpixelmed-java default-jre-headless prometheus chromium chromium-driver
BENCHMARKS := $(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[a-z]*.py))
CPU_TORCH := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help demo test run lint bench train-brain-mri train-ct peers clean

help:
	@sed -n '2,4s/^# *//p' Makefile

demo: $(READY)
	$(BIN)/qc-node demo $(if $(ONCE),--once) $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

run: $(READY)
	$(BIN)/qc-node run $(if $(CONFIG),--config $(CONFIG)) $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	@set -e; for name in $(BENCHMARKS); do \
	  echo "== python -m benchmarks.$$name $(ARGS)"; $(BIN)/python -m "benchmarks.$$name" $(ARGS); done

# Both simulate their training images first (hours on two cores, once), and go on where they were stopped.
train-brain-mri: $(READY)
	$(BIN)/qc-node train brain-mri --shared $(DATA) --build-pack 1200 --pack .cache/brain-mri/pack \
	  --out .cache/brain-mri/runs $(ARGS)

train-ct: $(READY)
	$(BIN)/qc-node train ct --data $(DATA) --pack .cache/ct/pack --out .cache/ct/runs $(ARGS)

# The real peers that the tests talk to (Debian, Ubuntu); without them those tests are skipped.
peers:
	$(if $(filter-out 0,$(shell id -u)),sudo )apt-get install -y --no-install-recommends $(PEERS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# The stamp is newer than what it was made from, so a changed dependency sets up again.
# torch comes first and alone: on a Linux machine without an NVIDIA driver the CPU build is taken where its
# index can be reached, because the default build brings gigabytes of CUDA libraries along.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "qc-node needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@index="$(TORCH_INDEX)"; \
	if [ -z "$$index" ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	  $(PYTHON) -c 'import urllib.request as u; u.urlopen("$(CPU_TORCH)/torch/", timeout=5)' 2>/dev/null \
	    && index=$(CPU_TORCH); fi; \
	echo "Installing $(TORCH) and what else qc-node needs into $(VENV) (once; some minutes)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) $${index:+--extra-index-url $$index}
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train]'
	@touch $@
