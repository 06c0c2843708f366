# make demo   set up, learn on the synthesised corpus, analyse a song, write a report
# make test   set up and run all tests          make lint    style, types, import layers, spelling
# make bench  measure speed                     make clean   remove what these made
# make attack  hostile input, kills and full disks, for hours; see docs/safety.md
# make mutants  change the code in 150 random places and count the changes that no test notices; an hour
# make test-installs   test the wheel in a new environment for each documented set of extras

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
EMOSEG := $(BIN)/emoseg

.PHONY: demo test test-installs lint bench attack mutants clean

$(VENV)/train.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[train]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/train.stamp

demo: $(VENV)/train.stamp
	rm -rf demo && mkdir demo
	$(EMOSEG) corpus synth demo/corpus --songs 120 --seed 1
	$(EMOSEG) evaluate synth:demo/corpus --method mixup --method sssl --method emoseg --folds 3 --seeds 1 --cache demo/cache --out demo/result.json
	$(EMOSEG) train synth:demo/corpus --cache demo/cache --out demo/model
	$(EMOSEG) corpus synth demo/new --songs 8 --seed 2 --quiet
	$(EMOSEG) analyze demo/new/audio/synth_0007.flac --model demo/model --format html --out demo
	@echo "report: demo/synth_0007.flac.html"

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-installs: $(VENV)/dev.stamp
	$(BIN)/python tests/installs/run.py

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/speed/bench.py

attack: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/attack/attack.py --out benchmarks/attack/result.json

mutants: $(VENV)/dev.stamp
	$(PIP) cosmic-ray
	$(BIN)/python benchmarks/mutants/mutants.py --out benchmarks/mutants/result.json

clean:
	rm -rf demo $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
