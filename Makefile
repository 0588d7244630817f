# make demo    fine-tune, export, serve and ask, on two cores in a few minutes
# make test    every test, and the examples in docstrings
# make lint    style, formatting, types
# make bench   speed beside other libraries; one JSON line a measurement
# make soak    the long tests: interrupted training, a server under load
#
# Each of them makes the environment .venv first, from the pinned requirements.txt.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(VENV)/bin/pip install --quiet --quiet --disable-pip-version-check
ENV := $(VENV)/.complete
CORPUS := ../shared/data/corpus/wikipedia_paragraphs.txt
VOCAB := ../shared/data/vocab
SST2 := ../shared/data/glue/SST-2/train.tsv

.DELETE_ON_ERROR:
.PHONY: env demo test lint format bench soak clean

env: $(ENV)

$(ENV): requirements.txt constraints.txt requirements-checkpoint.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo "Python 3.11 or 3.12 is needed: make PYTHON=python3.11" >&2; exit 1; }
	@echo "Making $(VENV) (a few minutes) ..."
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -r requirements-checkpoint.txt
	@touch $@

demo: env
	@$(RUN) -m samples.demo

test: env
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

lint: env
	@status=0; \
	for check in "ruff check ." "ruff format --check ." "mypy"; do \
	  echo "$$check"; $(VENV)/bin/$$check || status=1; \
	done; exit $$status

format: env
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: env
	@$(RUN) -m benchmarks.encoder_inference $(BENCH_FLAGS)
	@test ! -e $(CORPUS) || $(RUN) -m benchmarks.tokenization --text_file=$(CORPUS) \
	  --vocab_file=$(VOCAB)/bert-base-uncased-vocab.txt --cased_vocab_file=$(VOCAB)/bert-base-cased-vocab.txt
	@$(RUN) -m benchmarks.training_step $(if $(wildcard $(SST2)),--train_file=$(SST2)) $(BENCH_FLAGS)
	@$(RUN) -m benchmarks.pretraining_step $(BENCH_FLAGS)

soak: env
	$(RUN) -m pytest -m soak tests

clean:
	rm -rf build dist demo-output *.egg-info .mypy_cache .ruff_cache .pytest_cache
