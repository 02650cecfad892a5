# Everything runs from a fresh checkout: each target first makes .venv and installs what it needs.
#   make demo     a whole study on this machine: a coordinator and four nodes as real processes
#   make test     the test suite
#   make outside  verify artifacts with openssl, securesystemslib, Sigstore's own library, OpenSSF's model-signing (needs npm), and a ledger's verifier of its own;
#                 networks in pgmpy
#   make wheel-test   build the wheel, install it into an environment of its own, and run a brief demo from it (2 minutes)
#   make soak     chance and patience: attacks with thousands of releases, cuts and kills at random (10 minutes; SOAK_MINUTES=60 for more),
#                 20 kills at every step that changes the disk, 1,000 accidents of the network (an hour; SOAK_KILLS=, SOAK_ACCIDENTS=),
#                 10,000 altered artifacts and run directories (ALTERED=), and make fuzz (five hours)
#   make fuzz     ten minutes (FUZZ_MINUTES=) of coverage-guided fuzzing of each parser, with atheris in an environment of its own
#   make release-check   requirements.lock fits pyproject.toml and has hashes, two builds give the same wheel, an SBOM (CycloneDX) in dist/
#   make lock     newer versions into requirements.lock, with hashes (needs the package registry)
#   make images   both container images, their base pinned by images.lock, their packages by requirements.lock
#   make compose-test   docker-compose.yml and examples/deploy/compose/ in containers, with kills, stops and an audit (needs an engine: DOCKER=, COMPOSE=,
#                 IMAGE_BUILD= name its commands; ten minutes)
#   make bench    the accuracy and aggregation tables of docs/, one seed (an hour or more; BENCH_FLAGS="--seeds 3" for three)
#   make check    what CI checks besides: format, lint, types, import directions, generated stubs, the wire contract
# A smaller PyTorch, without CUDA:  make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP_FLAGS ?=
DEMO_FLAGS ?=
TEST_FLAGS ?=
BENCH_FLAGS ?= --seeds 1
SOAK_MINUTES ?= 10
FUZZ_MINUTES ?= 10
BIN := .venv/bin

.PHONY: demo test wheel-test outside soak fuzz lock release-check images compose-test bench check format stubs clean help compose-prepare

help:
	@sed -n '1,19p' Makefile

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "epgfn needs Python 3.11 or newer; install it, or name it: make demo PYTHON=/path/to/python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "cannot make a virtual environment; on Debian or Ubuntu: apt install python3-venv" >&2; rm -rf .venv; exit 2; }

.venv/.run: .venv/bin/python pyproject.toml
	@echo "Installing epgfn into .venv (once; a few minutes)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_FLAGS) -e .
	@touch $@

.venv/.dev: .venv/.run
	@echo "Installing what the tests need into .venv (once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_FLAGS) -e '.[dev]'
	@touch $@

demo: .venv/.run
	@$(BIN)/epgfn demo $(DEMO_FLAGS)

# Files in the order of their names, not those with most tests first: a file of one long test would come last and leave cores idle.
test: .venv/.dev
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(TEST_FLAGS)

wheel-test: .venv/bin/python
	@PYTHON=$(BIN)/python PIP_FLAGS="$(PIP_FLAGS)" tests/wheel.sh

.venv-model-signing/.there: .venv/bin/python
	@$(PYTHON) -m venv .venv-model-signing
	@.venv-model-signing/bin/python -m pip install -q --disable-pip-version-check 'model-signing==1.1.*' pyOpenSSL
	@touch $@

.venv-pgmpy/.there: .venv/bin/python
	@$(PYTHON) -m venv .venv-pgmpy
	@.venv-pgmpy/bin/python -m pip install -q --disable-pip-version-check 'pgmpy==1.1.*'
	@touch $@

# Needs node, npm and openssl. A tool that cannot be had is a failure here, and a test that is skipped elsewhere.
outside: .venv/.dev .venv-model-signing/.there .venv-pgmpy/.there
	@npm install --prefix tests/outside --no-package-lock --no-audit --no-fund --silent
	@EPGFN_OUTSIDE=required $(BIN)/python -m pytest tests/outside

# Each file takes its share of the time; the seed it prints plays the same choices again: make soak SOAK_SEED=...
soak: .venv/.dev
	@SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/python -m pytest -s -o python_functions='soak_*' tests/privacy/soak_privacy.py tests/node/soak_upload.py tests/coordinator/soak_kills.py tests/faults/soak_faults.py tests/coordinator/soak_crowds.py tests/attacks/soak_altered.py tests/run/audit/soak_audit.py
	@$(MAKE) --no-print-directory fuzz

.venv-fuzz/.there: .venv/bin/python
	@$(PYTHON) -m venv .venv-fuzz
	@.venv-fuzz/bin/python -m pip install -q --disable-pip-version-check 'atheris==3.*'
	@touch $@

# Everything but atheris comes from .venv. What gets past a parser is left in .venv-fuzz/found/NAME/crash-*: mend it, and keep it in tests/attacks/corpus/.
fuzz: .venv/.dev .venv-fuzz/.there
	@export PYTHONPATH=.:node:coordinator:tests/support:$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])'); \
	for name in $$($(BIN)/python -c 'import parsers; print(*parsers.NAMES)'); do \
		echo "$$name"; OMP_NUM_THREADS=1 .venv-fuzz/bin/python tests/attacks/fuzz.py $$name $$(($(FUZZ_MINUTES) * 60)) .venv-fuzz/found || exit 1; \
	done

.venv-release/.there: .venv/bin/python
	@$(PYTHON) -m venv .venv-release
	@.venv-release/bin/python -m pip install -q --disable-pip-version-check 'uv==0.13.*' 'cyclonedx-bom==7.*'
	@touch $@

lock: .venv-release/.there
	@tests/release.sh lock

release-check: .venv-release/.there
	@PYTHON=$(BIN)/python tests/release.sh check

images:
	@tests/release.sh images

DOCKER ?= docker
compose-test: .venv/.run
	@DOCKER="$(DOCKER)" COMPOSE="$(COMPOSE)" IMAGE_BUILD="$(IMAGE_BUILD)" PIP_FLAGS="$(PIP_FLAGS)" tests/compose.sh

bench: .venv/.run
	@OMP_NUM_THREADS=1 $(BIN)/epgfn bench accuracy $(BENCH_FLAGS)
	@OMP_NUM_THREADS=1 $(BIN)/epgfn bench aggregate $(BENCH_FLAGS)
	@OMP_NUM_THREADS=1 $(BIN)/epgfn bench speed $(BENCH_FLAGS)

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PYTHON=$(BIN)/python proto/generate.sh --check
	$(BIN)/buf lint proto

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

stubs: .venv/.dev
	PYTHON=$(BIN)/python proto/generate.sh

clean:
	rm -rf .venv .venv-model-signing .venv-pgmpy .venv-fuzz .venv-release .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

compose-prepare: .venv/.run
	@$(BIN)/python examples/compose/prepare.py
