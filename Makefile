# Each command does its own set-up, once: a virtual environment in .venv with everything in it.
#   make demo | test | test-quick | test-nightly | run | lint | bench | soak | train-brain-mri | train-ct | peers | clean
#   make hooks | texts | pictures | lock | sbom   (for those who change or release it: CONTRIBUTING.md)
# Variables: PYTHON (3.11 or newer), VENV, ARGS (more arguments for the command), ONCE=1 (demo), CONFIG (run),
#            WORKERS (test processes), TORCH_INDEX (an index with the build of torch that you want),
#            DATA (images to train on), LOCK (sbom).

PYTHON ?= python3
VENV ?= .venv
DATA ?= ../shared/data
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
LOCK ?= deploy/requirements-cpu.txt
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := $(shell grep '^torch==' constraints.txt)
PEERS := orthanc orthanc-dicomweb orthanc-webviewer dcmtk dicom3tools libpixelmed-java default-jdk-headless prometheus \
  chromium chromium-driver nginx-light tesseract-ocr
OPENID := oidc-provider@9.13.3
BENCHMARKS := $(filter-out soak,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[a-z]*.py)))
CPU_TORCH := https://download.pytorch.org/whl/cpu
REACH_CPU_TORCH = $(PYTHON) -c 'import urllib.request as u; u.urlopen("$(CPU_TORCH)/torch/", timeout=5)' 2>/dev/null
TOOLS := .cache/release
SHIPPED := .cache/shipped

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick test-nightly run lint bench soak train-brain-mri train-ct peers hooks texts pictures lock sbom clean

help:
	@sed -n '2,6s/^# *//p' Makefile

demo: $(READY)
	$(BIN)/qc-node demo $(if $(ONCE),--once) $(ARGS)

# Tests of one group (a module that shares a node, whatever must not run beside each other) stay in one process.
# Without bytecode each of them, and each program that a test starts, would compile everything anew.
# A process of tests that crashes ends the run: pytest-xdist waits for ever for what it had in hand in a group.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --max-worker-restart 0

test: $(READY)
	$(PYTEST) -m "not nightly" $(ARGS)

# The inner loop: under a minute on two cores.  The pure parts; no peer, no real images, nothing that takes seconds.
QUICK := $(addprefix tests/,domain report series completion ledger classifiers engine test_arrows.py test_config.py \
  test_docs.py test_names.py test_habits.py)

test-quick: $(READY)
	$(PYTEST) -m "not (nightly or slow or peer or data)" $(QUICK) $(ARGS)

# Everything, the long ones too.
test-nightly: $(READY)
	$(PYTEST) $(ARGS)

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

# Half an hour of faults (ARGS="--minutes 5"): the invariants, flat memory, and which alerts would have fired.
soak: $(READY)
	$(BIN)/python -m benchmarks.soak $(ARGS)

# Both simulate their training images first (hours on two cores, once), and go on where they were stopped.
train-brain-mri: $(READY)
	$(BIN)/qc-node train brain-mri --shared $(DATA) --build-pack 1200 --pack .cache/brain-mri/pack \
	  --out .cache/brain-mri/runs $(ARGS)

train-ct: $(READY)
	$(BIN)/qc-node train ct --data $(DATA) --pack .cache/ct/pack --out .cache/ct/runs $(ARGS)

# The real peers that the tests talk to (Debian, Ubuntu); without them those tests are skipped.
peers:
	$(if $(filter-out 0,$(shell id -u)),sudo )apt-get install -y --no-install-recommends $(PEERS)
	$(if $(shell command -v npm),npm install --silent --no-audit --no-fund --prefix .cache/openid $(OPENID))

# What CI would say, said before the commit.
hooks: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pre-commit
	$(BIN)/pre-commit install

# What the pages say: collected from templates, scripts and Python; every catalogue is brought up to date and compiled.
LOCALE := qc_node/web/locale
BABEL := $(BIN)/pybabel --quiet
texts: $(READY)
	@mkdir -p $(LOCALE)
	$(BABEL) extract -F pyproject.toml -k t -k n:1,2 --no-location --sort-output --no-wrap --project=qc-node \
	  --copyright-holder="the qc-node project" --header-comment="# What the pages of qc-node say." \
	  -o $(LOCALE)/qc_node.pot qc_node/web
	@for po in $(wildcard $(LOCALE)/*/LC_MESSAGES/qc_node.po); do language=$$(basename $$(dirname $$(dirname $$po))); \
	  $(BABEL) update --no-wrap --ignore-pot-creation-date -l $$language -D qc_node -i $(LOCALE)/qc_node.pot -o $$po; done
	@$(if $(wildcard $(LOCALE)/*/LC_MESSAGES/qc_node.po),$(BABEL) compile --statistics -D qc_node -d $(LOCALE))

# The pictures of docs/web.md, of every state that they show, with phantoms; names the states that cannot be reached.
pictures: $(READY)
	$(BIN)/python -m tests.web.screenshots $(ARGS)

# Every package of a release with the hashes of its files, without and with CUDA; ARGS=--upgrade takes newer ones.
lock: $(TOOLS)/.ready
	deploy/lock $(TOOLS)/bin/uv $(CPU_TORCH) $(ARGS)

# What ships, as CycloneDX JSON in build/: qc-node and the packages of LOCK, installed by their hashes to be looked at.
sbom: $(TOOLS)/.ready
	$(PYTHON) -m venv --clear $(SHIPPED)
	$(SHIPPED)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK) \
	  $$($(REACH_CPU_TORCH) && echo "--extra-index-url $(CPU_TORCH)")
	@mkdir -p build
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(TOOLS)/bin/cyclonedx-py environment $(SHIPPED)/bin/python \
	  --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom.json $(ARGS)
	@echo build/sbom.json

$(TOOLS)/.ready: constraints.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv cyclonedx-bom
	@touch $@

clean:
	rm -rf $(VENV) $(TOOLS) $(SHIPPED) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage

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
	  $(REACH_CPU_TORCH) && index=$(CPU_TORCH); fi; \
	echo "Installing $(TORCH) and what else qc-node needs into $(VENV) (once; some minutes)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) $${index:+--extra-index-url $$index}
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps axe-playwright-python
	@touch $@
