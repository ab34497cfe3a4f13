# One command per wish; each makes .venv on a fresh machine first (once: a stamp file remembers).
#   make demo       the whole tour, headless, into runs/tour/, with a report     (about 10 minutes on 2 cores)
#   make lab        JupyterLab on the tour, with the lab's own settings
#   make test       everything the tests need, then all tests                    (about half an hour)
#   make test-fast  the daily tier                                                (about 2 minutes)
#   make bench      speed and memory, measured beside TRL (LABKIT_BENCH_TRL=FOLDER: where TRL 1.12.0 is, without network)
#   make lint       ruff, as pre-commit runs it
# Choose another interpreter with PYTHON=python3.12 (3.11 or newer), another place with VENV=~/envs/lab.

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -q

.PHONY: demo lab test test-fast bench lint constraints clean
.DELETE_ON_ERROR:

# torch goes first and alone: an exact pin in a call of its own lets pip take the CPU build where one is offered.
$(VENV)/.lab: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "Installing into $(VENV) (once; some minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install "$$(grep '^torch==' constraints.txt)"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.lab
	@$(PIP) install --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(VENV)/.lab
	@$(BIN)/labkit demo

# widgets/jupyter: widget messages go to the kernel's main thread (idle while a job trains), cells keep their widgets alive.
# root_dir: so that the file browser reaches runs/, not notebooks/ alone.
lab: $(VENV)/.lab
	@JUPYTER_CONFIG_PATH=$(CURDIR)/widgets/jupyter $(BIN)/jupyter lab --ServerApp.root_dir=$(CURDIR) --LabApp.default_url=/lab/tree/notebooks/00_tour.ipynb

# Halves that lie together, so that few fixtures of a file are made twice; who is done first takes over from the other.
test-fast: $(VENV)/.test
	@OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal -m "not slow and not browser and not kernel and not bench"

# The fast tier first, so that a plain mistake shows within two minutes; browsers alone, because they measure time.
test: test-fast
	@$(BIN)/python tests/browser/find_browser.py --ensure || echo "The browser tests will be skipped."
	@OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist loadfile -m "(slow or kernel) and not browser and not bench"
	@OMP_NUM_THREADS=1 $(PYTEST) -m "browser and not bench"

bench: $(VENV)/.test
	@$(PYTEST) -s -m bench

lint: $(VENV)/.test
	@$(BIN)/ruff check .

constraints: $(VENV)/.test
	@sed -i '/^[^#]/d' constraints.txt
	@$(PIP) freeze --all --exclude-editable | grep -v -e ' @ ' -e '^pip==' -e '^wheel==' | sed 's/+[[:alnum:].]*$$//' >> constraints.txt

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache
