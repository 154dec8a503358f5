# Each target sets up .venv itself. Python 3.10 or later is all that is needed: make PYTHON=python3.12 demo
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

.PHONY: demo test slow floors docs bench lint setup clean

# pip of the environment is new enough for constraints and editable installs. torch first and alone: the exact version
# of constraints.txt, so that nothing asks for another build.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or later is needed: make PYTHON=..."; exit 1; }
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --upgrade pip
	$(RUN)/python -m pip install --quiet --constraint constraints.txt torch
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: $(VENV)/.ready

# The whole road, offline, in minutes: pretrain, fine-tune on English, zero-shot table. Output in ./demo.
demo: setup
	HF_HUB_OFFLINE=1 $(RUN)/xmodular demo --output-dir demo --overwrite

# A process per core, each with one thread.
test: setup
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n auto --dist worksteal

slow: setup
	$(RUN)/python -m pytest -m slow

# The lowest versions that pyproject.toml allows, all together, on the tests that touch every dependency. Old versions
# warn of what newer ones changed, so warnings are no errors here. make TORCH=2.13.0 floors takes that torch instead.
FLOORS := .venv-floors
floors:
	test -x $(FLOORS)/bin/python || $(PYTHON) -m venv $(FLOORS)
	sed -n '/^dependencies = \[/,/^\]/ s/^ *"\([^">=]*\)>=\([^",]*\).*/\1==\2/p' pyproject.toml > $(FLOORS)/floors.txt
	$(if $(TORCH),sed -i 's/^torch==.*/torch==$(TORCH)/' $(FLOORS)/floors.txt)
	$(FLOORS)/bin/python -m pip install --quiet --upgrade pip
	$(FLOORS)/bin/python -m pip install --quiet --constraint $(FLOORS)/floors.txt torch
	$(FLOORS)/bin/python -m pip install --quiet --constraint $(FLOORS)/floors.txt --editable . \
		hypothesis psutil pytest scikit-learn seqeval torchmetrics
	OMP_NUM_THREADS=1 $(FLOORS)/bin/python -m pytest -W default tests/test_cli.py tests/test_imports.py tests/test_examples.py \
		tests/test_identify.py tests/test_vocabulary.py tests/text tests/rows tests/results tests/charts \
		tests/packs/test_packs.py tests/modeling/test_parity.py tests/modeling/test_loading.py tests/tasks/test_heads.py

# The site, in build/site; a broken link or a damaged docstring is an error.
docs: setup
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(RUN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/site

bench: setup
	$(RUN)/python benchmarks/forward.py
	$(RUN)/python benchmarks/training.py
	$(RUN)/python benchmarks/loading.py
	$(RUN)/python benchmarks/startup.py

lint: setup
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

clean:
	rm -rf $(VENV) $(FLOORS) build demo runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
