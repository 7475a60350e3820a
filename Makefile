# Two commands do all: `make demo` runs the main job on a pool of its own, `make test` the linters and the fast tests.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Threads that wait sleep: spinning ones made a busy two-core machine up to 200 times slower.
export OMP_WAIT_POLICY ?= PASSIVE
# The first import compiles, the others need not: a loader process starts in a third of the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-all lint environment clean compose-test faults fuzz api-docs

demo: $(VENV)/demo-ready
	$(BIN)/python -m demo $(if $(KEEP),--keep)

test: lint
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow" $(PYTEST)

# Faults, killed workers, S3 that breaks off, trainings, the documents' pipelines, the page in a browser: tens of minutes.
test-slow: $(VENV)/test-ready
	$(BIN)/pytest -n 2 --dist loadfile -m slow $(PYTEST)

test-all: test
	$(MAKE) test-slow

lint: $(VENV)/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

environment: $(VENV)/test-ready

# uv installs the pinned set in a third of pip's time; where it cannot be had, pip does it.
$(VENV)/%-ready: pyproject.toml service/pyproject.toml workers/pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt uv || true
	$(call install,$(EXTRAS_$*))
	touch $@

EXTRAS_demo := engine,embedded,demo
EXTRAS_test := $(EXTRAS_demo),s3,dev

define install
	if test -x $(BIN)/uv; \
	then $(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e ".[$(1)]" -e service -e workers; \
	else $(BIN)/pip install --disable-pip-version-check -c constraints.txt -e ".[$(1)]" -e service -e workers; fi
endef

# Readers on 100,000 mutated shards, 10,000 parquets and 10,000 params.txt; the API on what schemathesis makes of its own
# schema: some 20 minutes.
fuzz: $(VENV)/test-ready
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),100000)
	CORESET_FUZZ_EXAMPLES=$(or $(EXAMPLES),300) $(BIN)/pytest -n 0 --timeout 3600 tests/service/api_docs/test_schemathesis.py

clean:
	rm -rf $(VENV) demo/out demo/summary.json

# Builds the images, runs them and submits a job; says so and passes where no Docker engine runs.
compose-test: $(VENV)/demo-ready
	bash tests/compose/smoke.sh

# Breaks a running service in every way that docs/reliability.md lists, and prints what became of it; some twenty minutes.
faults: $(VENV)/test-ready
	$(BIN)/python -W ignore -m tests.faults --json benchmarks/results/faults.json $(FAULTS)

# docs/openapi.json, docs/problems.md and docs/spec.md, which tests compare with the code.
api-docs: $(VENV)/test-ready
	$(BIN)/python -m coreset_service.export_docs docs
