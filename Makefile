# One door for each tool: `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= 3
PYTHON312 ?= python3.12

.DEFAULT_GOAL := help
.PHONY: help run test chaos simulate bench bench-scale check migrate format lock clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/run ## Start everything on this machine: API, workers, database, sandbox
	@exec $(BIN)/assistance up

test: $(VENV)/dev ## Run every test against real PostgreSQL and RabbitMQ
	@$(BIN)/python -m tests.servers.fetch
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long and not alone"
	$(BIN)/python -m pytest -m "alone and not long"

chaos: $(VENV)/dev ## Kill everything under load and check every promise (ROUNDS, SECONDS of faults in each, SEED, DENSITY)
	@$(BIN)/python -m tests.servers.fetch
	@$(BIN)/python -m tests.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(DENSITY),--density $(DENSITY)) $(if $(REPORT),--report $(REPORT))

simulate: $(VENV)/dev ## Play the flow in memory with every fault, many times (RUNS, SEED, JOBS, REPORT)
	@$(BIN)/python -m tests.simulation $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(JOBS),--jobs $(JOBS)) $(if $(REPORT),--report $(REPORT))

bench: $(VENV)/dev $(VENV)-bench/ready $(VENV)-bench-pgrelay/ready ## Measure beside the limit and others; writes docs/performance.md, in 20 minutes (ROUNDS, SECONDS)
	@$(BIN)/python -m tests.servers.fetch
	@$(BIN)/python -m bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

bench-scale: $(VENV)/dev ## The same with long histories and backlogs, more channels and processes, in an hour
	@$(BIN)/python -m tests.servers.fetch
	@$(BIN)/python -m bench.scale $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

check: $(VENV)/dev ## Format, lint, types, import contracts, compose file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python deploy/check_compose.py

migrate: $(VENV)/run ## Bring the database of ASSISTANCE_DATABASE_URL to this program's schema
	@$(BIN)/assistance migrate

format: $(VENV)/dev ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/dev ## Lock the dependencies anew (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml \
	  --extra embedded --group build --output-file requirements/run.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml \
	  --extra embedded --extra otel --extra sentry --group build --group test --group lint --output-file requirements/dev.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml \
	  --group bench --constraint requirements/run.txt --output-file requirements/bench-peers.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.12 \
	  --group bench-pgrelay --output-file requirements/bench-pgrelay.txt

clean: ## Remove the environment and every cache; data in .assistance stays
	rm -rf $(VENV) $(VENV)-bench $(VENV)-bench-pgrelay .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/run: requirements/run.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what assistance needs (once) …"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/dev: requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what the tests need (once) …"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)-bench/ready: requirements/bench-peers.txt
	@echo "Installing what is compared (once) …"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

$(VENV)-bench-pgrelay/ready: requirements/bench-pgrelay.txt
	@if $(PYTHON312) -c '' 2>/dev/null; then \
	  $(PYTHON312) -m venv $(@D) && \
	  $(@D)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $< && touch $@; fi
