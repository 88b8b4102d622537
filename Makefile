# make demo     installs affuse, analyses the bundled clip, prints its timeline and writes demo/report.html
# make test     installs what the tests need and runs them
# make help     lists the rest

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CLIP := demo/clip

# pip of $(PYTHON) installs into the environment from outside, which spares 25 MB inside it; where $(PYTHON) has no pip
# that can, the environment gets its own. Asked anew in every recipe, since the environment may be made in between.
PIP = $(shell test -x $(BIN)/pip && echo $(BIN)/python -m pip || echo $(PYTHON) -m pip --python $(BIN)/python)
INSTALL = $(PIP) --disable-pip-version-check install --quiet --no-compile --editable

# torch comes along for the tests only where pip has wheels at hand (--find-links), among them torch's CPU build: a plain
# index would bring gigabytes for GPUs. Without torch the tests of training skip, with a reason.
TRAINING = dev,train,features
DEVELOPING = $(shell { test -n "$$PIP_FIND_LINKS" || $(PYTHON) -m pip config list 2>/dev/null | grep -q find-links; } \
	&& echo '$(TRAINING)' || echo dev)
PINNED = --constraint recipes/constraints.txt

# pip compiles nothing (--no-compile), so every process would compile all that it imports where none may keep bytecode.
unexport PYTHONDONTWRITEBYTECODE

# What looks at the environment from outside, in one of its own, so that it lists nothing of itself.
TOOLS := $(VENV)/tools

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-docs setup-train demo test mutants fuzz lint lint-js types format bench docs figures licences sbom audit clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.core  ## make the environment and install affuse

setup-dev: $(VENV)/.dev  ## the same with what tests, lint and types need, and with torch where pip has its CPU build at hand

setup-docs: $(VENV)/.docs  ## the same as setup-dev with what the documentation needs

setup-train: $(VENV)/.train  ## the same with torch and all features, for trainings and joint networks (pip needs torch's CPU build at hand)

demo: $(VENV)/.core  ## analyse the bundled clip and write demo/report.html
	$(BIN)/affuse analyze $(CLIP).mp4 --transcript $(CLIP).srt --report demo/report.html

test: $(VENV)/.dev  ## run the tests on every core
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

# The folder is there before Python starts, since Python remembers of a folder on its path that it is missing.
mutants: $(VENV)/.mutants  ## change the core in small ways, each of which some test must notice (half an hour)
	mkdir -p mutants/src
	PYTHONPATH=$(CURDIR)/mutants/src OMP_NUM_THREADS=1 $(BIN)/mutmut run $(ARGS)
	$(BIN)/mutmut results

fuzz: $(VENV)/.dev  ## read damaged and hostile files of all kinds for five minutes (ARGS="--seconds 60 --inputs 500 --kind tables"; AFFUSE_HOSTILE may name a folder of more)
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m fuzz $(ARGS)

lint: $(VENV)/.dev  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-js:  ## check style and types of the scripts of the report and of the page (skips without npm)
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory node_modules/.package-lock.json && npm run --silent lint && npm run --silent types; \
		else echo "npm is not installed, so the scripts are not checked"; fi

types: $(VENV)/.dev  ## check types
	$(BIN)/mypy

format: $(VENV)/.dev  ## put style in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## build the documentation into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html $(ARGS)

bench: $(VENV)/.dev  ## measure speed and memory of whole processes
	$(BIN)/python bench/run.py $(ARGS)

figures: $(VENV)/.dev  ## measure the shipped experts and refresh every table (AFFUSE_DATA names the data, AFFUSE_MODELS the folder of YuNet)
	$(BIN)/python scripts/make_figures.py $(ARGS)

licences: $(VENV)/.core $(TOOLS)/.made  ## list the licences of what is installed, and their texts, in licences-out
	mkdir -p licences-out
	$(TOOLS)/bin/pip-licenses --python=$(BIN)/python --with-urls --format=csv --output-file=licences-out/licences.csv
	$(TOOLS)/bin/pip-licenses --python=$(BIN)/python --with-license-file --no-license-path --format=plain-vertical \
		--output-file=licences-out/texts.txt

sbom: $(VENV)/.core $(TOOLS)/.made  ## write a software bill of materials (CycloneDX) into licences-out/sbom.cdx.json
	mkdir -p licences-out
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --of JSON --output-file licences-out/sbom.cdx.json \
		$(BIN)/python

audit: $(VENV)/.core $(TOOLS)/.made  ## look for known vulnerabilities in what is installed (asks the package index; ARGS="--service osv" asks OSV)
	mkdir -p licences-out
	@$(BIN)/python scripts/audit.py --tool $(TOOLS)/bin/pip-audit --out licences-out/audit.json \
		--packages "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" $(ARGS)

clean:  ## remove the environment and everything made by demo, bench, fuzz, mutants, docs, licences, sbom and audit
	rm -rf $(VENV) demo/out demo/report.html bench-out fuzz-out mutants licences-out docs/_build docs/reference/generated

# Stamps: an environment is made once, and brought up to date only when pyproject.toml changes.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "affuse needs Python 3.11 or newer, and $(PYTHON) is older or absent; name another: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --default-pip
	@touch $@

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --silent --no-audit --no-fund
	@touch $@

$(VENV)/.core: $(VENV)/.made pyproject.toml
	$(INSTALL) .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml recipes/constraints.txt
	$(INSTALL) '.[$(DEVELOPING)]' $(PINNED)
	@touch $@ $(VENV)/.core

$(VENV)/.docs: $(VENV)/.made pyproject.toml recipes/constraints.txt
	$(INSTALL) '.[$(DEVELOPING),docs]' $(PINNED)
	@touch $@ $(VENV)/.dev $(VENV)/.core

$(VENV)/.mutants: $(VENV)/.dev pyproject.toml
	$(INSTALL) '.[dev,mutants]'
	@touch $@

$(VENV)/.train: $(VENV)/.dev pyproject.toml recipes/constraints.txt
	$(INSTALL) '.[$(TRAINING)]' $(PINNED)
	@touch $@

$(TOOLS)/.made: $(VENV)/.made
	$(PYTHON) -m venv --without-pip $(TOOLS)
	@$(PYTHON) -m pip --python $(TOOLS)/bin/python --version >/dev/null 2>&1 || $(TOOLS)/bin/python -m ensurepip --default-pip
	$$(test -x $(TOOLS)/bin/pip && echo $(TOOLS)/bin/python -m pip || echo $(PYTHON) -m pip --python $(TOOLS)/bin/python) \
		--disable-pip-version-check install --quiet --no-compile \
		'pip-licenses>=5.5,<6' 'cyclonedx-bom>=7,<8' 'pip-audit>=2.9,<3'
	@touch $@
