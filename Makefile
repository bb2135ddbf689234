# make quickstart   environment, PRN trained on the built-in miniature, evaluated, report
# make test         environment, all default tests
# make coverage     the same, and fails where too few lines are reached
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: setup quickstart test coverage lint bench clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lit_face needs Python 3.11 or newer; try: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

quickstart: setup
	$(BIN)/python train.py experiment=quickstart
	$(BIN)/python evaluate.py ckpt=runs/latest

PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test: setup
	$(PYTEST)

coverage: setup
	$(PYTEST) --cov --cov-report=term:skip-covered

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell README.md docs src datamodules callbacks conf tests bench
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: setup
	$(BIN)/python bench/position_maps.py
	$(BIN)/python bench/rasterizers.py
	$(BIN)/python bench/loader.py
	$(BIN)/python bench/training_step.py
	$(BIN)/python bench/face_finder.py
	$(BIN)/python bench/reconstruct.py
	$(BIN)/python bench/ray_tracing.py
	$(BIN)/python bench/refine.py

clean:
	rm -rf .venv runs build dist .pytest_cache .mypy_cache .ruff_cache .coverage
