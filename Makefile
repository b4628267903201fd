# scenario_repo: `make demo` and `make test` start from a bare checkout.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
POSTGRES_VERSIONS := 17 18
PARALLEL := --numprocesses 2 --dist loadfile
# What rests on how the server plans, locks, writes its catalogue and reads types. By night: SUITE=tests/integration.
SUITE := $(addprefix tests/integration/test_,answers.py claim_batches.py claim_races.py claims.py evaluation.py \
  evaluation_races.py holds.py installation.py leases.py look_ups.py migrations.py moments.py own_tables.py \
  passes.py personal_data_in_database.py plans.py purge.py rules.py settlements.py source_misfits.py status.py)
STACK := supabase/local/node_modules/.installed-lock

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.installed $(STACK) ## set up, and run the main job on the embedded stack
	@$(BIN)/python supabase/local/demo.py

.PHONY: test
test: $(VENV)/.installed $(STACK) postgres ## set up, and run all tests
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

.PHONY: unit
unit: $(VENV)/.installed ## run the unit tests: no server, no network
	$(BIN)/python -m pytest tests/unit $(PARALLEL) $(PYTEST_ARGS)

.PHONY: pythons
pythons: $(VENV)/.installed ## run the unit tests and the type checks on each Python of 3.11 to 3.14 that is here
	@$(BIN)/python -P tests/check_pythons.py $(PYTHONS_ARGS)

.PHONY: postgres-versions
postgres-versions: $(VENV)/.installed $(STACK) ## run the database tests on PostgreSQL 17 and 18
	@failed=; for version in $(POSTGRES_VERSIONS); do \
	  export SCENARIO_TEST_POSTGRES=$$version; \
	  $(BIN)/python tests/postgres/install.py && \
	  $(BIN)/python -m pytest $(SUITE) $(PARALLEL) $(PYTEST_ARGS) || failed="$$failed $$version"; \
	done; test -z "$$failed" || { echo "failed on PostgreSQL$$failed" >&2; exit 1; }

.PHONY: check
check: $(VENV)/.installed ## lint, formatting, strict types, and whether what is generated is up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python supabase/generators/personal_data.py --check
	$(BIN)/python supabase/generators/migration.py --check
	$(BIN)/python supabase/generators/blocking.py --check
	$(BIN)/python docs/reference.py --check

.PHONY: generate
generate: $(VENV)/.installed ## write what is generated: personal data's patterns, the migration, blocking.py, the reference
	$(BIN)/python supabase/generators/personal_data.py
	$(BIN)/python supabase/generators/migration.py
	$(BIN)/python supabase/generators/blocking.py
	$(BIN)/python docs/reference.py

.PHONY: docs
docs: $(VENV)/.installed ## build the documentation into .cache/docs, strictly
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs .cache/docs

.PHONY: wheel
wheel: $(VENV)/.installed ## build the wheel, and import it in an environment of its own
	$(BIN)/python -P tests/check_wheel.py

.PHONY: package
package: $(VENV)/.installed ## build the sdist and the wheel as for an index, and run the sdist's unit tests
	$(BIN)/python -P tests/check_package.py

.PHONY: dependencies
dependencies: $(VENV)/.installed ## run the unit tests with the lowest and with the newest dependencies permitted
	$(BIN)/python -P tests/check_dependencies.py

.PHONY: previous-release
previous-release: $(VENV)/.installed $(STACK) postgres ## run the newest release's library on the present schema
	@$(BIN)/python -P tests/check_previous_release.py

.PHONY: bench
bench: $(VENV)/.bench $(STACK) postgres ## measure, against floors and peers (BENCH_ARGS=--quick or --full)
	$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

.PHONY: pictures
pictures: $(VENV)/.installed $(STACK) postgres ## take the pictures of the console in docs/pictures, from the sample data
	@$(BIN)/python -m tests.pictures

.PHONY: stack
stack: $(VENV)/.installed $(STACK) ## run the embedded stack until Ctrl-C, with the sample data
	@$(BIN)/python supabase/local/serve.py --seed

.PHONY: postgres
postgres: $(VENV)/.installed
	@$(BIN)/python tests/postgres/install.py

.PHONY: clean
clean: ## remove everything that was set up or built here
	rm -rf $(VENV) supabase/local/node_modules dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml tests/constraints.txt
	@$(PYTHON) supabase/local/set_up.py python

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --group bench
	@touch $@

$(STACK): supabase/local/package-lock.json | $(VENV)/.installed
	@$(BIN)/python supabase/local/set_up.py node
