# Engine Room. Type `make` to see what there is.

# Recipes name everything relative to this folder, so its path may hold spaces.
VENV := .venv
PYTHON ?=
LAB_ARGS ?=
CHANCE_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist loadfile
NBVAL_ARGS ?= -n 2 --dist loadfile --nbval-cell-timeout=120 --nbval-sanitize-with tests/nbval_sanitize.cfg
CODE := engineroom checks tools

.DEFAULT_GOAL := help
.PHONY: help lab test install lint bench chance build lock system-deps clean
MAKEFLAGS += --no-print-directory

lab: install ## JupyterLab with Postgres, until Ctrl-C (LAB_ARGS=...)
	@exec $(VENV)/bin/engineroom lab $(LAB_ARGS)

test: install lint ## All that can be tested here (STRICT=1: skipping is failing)
	$(VENV)/bin/engineroom build --check
	$(VENV)/bin/engineroom verify --load
	$(VENV)/bin/python -m pytest --nbval $(NBVAL_ARGS) notebooks solutions
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

install: ## Make .venv with the pinned packages (PYTHON=/path/to/it)
	@sh tools/install.sh "$(PYTHON)"

lint: install ## Check style and types
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/mypy --strict $(CODE)

bench: install ## Measure against the budgets (JSON=1 writes bench.json)
	$(VENV)/bin/python -m benchmarks $(if $(filter-out 0,$(JSON)),--json)

chance: install ## Look for answers judged by luck (CHANCE_ARGS=urls)
	$(VENV)/bin/python -m tools.chance $(CHANCE_ARGS)

build: install ## Build the notebooks from solutions/
	$(VENV)/bin/engineroom build

lock: install ## Pin what pyproject.toml asks for (UPGRADE=1: the newest)
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --all-extras $(if $(filter-out 0,$(UPGRADE)),--upgrade) \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock

system-deps: ## Get PgBouncer, Chromium, bubblewrap, Docker by apt (root)
	@sh tools/system-deps.sh

clean: ## Remove .venv, caches, built packages; never work/
	rm -rf $(VENV) .venv.lock build dist bench.json .coverage htmlcov \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . \( -path ./work -o -path ./.git \) -prune -o -type d \
		\( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

help: ## Show this
	@printf 'Engine Room: async database engines in Python, against a real Postgres.\n\n'
	@awk 'BEGIN { FS = ":[^#]*## " } /^[a-z-]+:[^#]*## / { printf "  make %-12s  %s\n", $$1, $$2 }' Makefile
	@printf '\nNew here? make lab\n'
