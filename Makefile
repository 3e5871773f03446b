# Two commands do everything: `make evolve` and `make test`.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: evolve test lint tpu-check lm-eval-check clean

evolve: $(STAMP)
	$(BIN)/python -m launch.evolve --config=configs/quickstart.py $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyrefly check

# Compiles the kernels for a TPU, in an environment that has libtpu.
tpu-check:
	$(MAKE) .venv-tpu/.installed VENV=.venv-tpu EXTRAS=dev,tpu-aot
	.venv-tpu/bin/python -m launch.bench kernels --on=tpu-small
	.venv-tpu/bin/python -m pytest -n 0 tests/tracks/architecture/test_targets.py \
	  tests/pallas_kernels/test_ahead_of_time.py

# Scores a small model by lm-evaluation-harness: 100 MB more to fetch.
lm-eval-check:
	$(MAKE) .venv-lm-eval/.installed VENV=.venv-lm-eval EXTRAS=dev,lm-eval
	.venv-lm-eval/bin/python -m pytest -n 0 tests/tracks/architecture/test_lm_eval.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) .venv-tpu .venv-newest .venv-lm-eval
