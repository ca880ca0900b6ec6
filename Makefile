# Seonchak. `make help` lists what can be done here.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SEED ?= 1
ROUNDS ?= 2
LANE ?= web
JOBS ?= 2
# As root the embedded PostgreSQL makes itself a user, by a program that a bare PATH does not find.
export PATH := $(PATH):/usr/sbin:/sbin

# What pip tells, as a count of the packages in the lock file: in one line on a terminal, every twentieth elsewhere.
define SHOW_PIP
{ \
	all=$$(grep -c '==' requirements.lock); seen=0; \
	if [ -t 1 ]; then every=1; start='\r'; end=''; else every=20; start=''; end='\n'; fi; \
	while read -r what rest; do \
		case $$what in \
		Collecting|Processing|Requirement|Ignoring) \
			seen=$$((seen + 1)); \
			[ $$((seen % every)) -ne 0 ] || printf "$$start  %s of %s packages$$end" $$seen $$all ;; \
		Installing) printf "$$start  %s of %s packages, unpacking …\n" $$seen $$all ;; \
		Ended) exit $$rest ;; \
		esac; \
	done; \
	exit 1; \
}
endef

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PORT=8001 USERS=2000 COUPONS=50 ONCE=1 change the demo; DATABASE_URL, STOCK_REDIS_URL, CACHE_URL and"
	@echo "  BROKER_URL name servers of yours to be used instead of the embedded ones."

.PHONY: demo
demo: $(INSTALLED) ## Set everything up, rush a sale with 10,000 users, print the verdict, go on serving
	@$(BIN)/python -m config.launch demo $(if $(ONCE),--once)

.PHONY: run
run: $(INSTALLED) ## Serve without the rush
	@$(BIN)/python -m config.launch run

.PHONY: test
test: $(INSTALLED) ## Run all tests, on embedded servers of their own (JOBS=2 of them)
	$(BIN)/pytest -n $(JOBS) --dist loadfile $(ARGS)

.PHONY: test-faults
test-faults: $(INSTALLED) ## Break every server and process under a sale, and have the checker judge (SEED=1 ROUNDS=2 LANE=web)
	$(BIN)/pytest tests/faults -m faults --seed $(SEED) --rounds $(ROUNDS) --lane $(LANE) $(ARGS)

.PHONY: test-browser
test-browser: $(INSTALLED) ## Drive a real browser through the pages (needs a Chromium; screenshots in .seonchak/screenshots)
	$(BIN)/pytest tests/browser -m browser $(ARGS)

.PHONY: bench
bench: $(INSTALLED) ## Measure: ratios in one run, never asserted in the tests
	$(BIN)/pytest tests/benchmarks -m benchmark -s $(ARGS)

.PHONY: compare
compare: $(INSTALLED) ## Measure every way to hand out coupons, side by side (table; CSV and plot in .seonchak)
	@mkdir -p .seonchak
	@$(BIN)/python -m config.launch compare --csv .seonchak/strategies.csv --plot .seonchak/strategies.png $(ARGS)

.PHONY: lint
lint: $(INSTALLED) ## Style, layers, migrations, lock file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	DJANGO_SETTINGS_MODULE=tests.typing_settings $(BIN)/python manage.py makemigrations --check --dry-run
	@! grep -nE 'https?://|index-url|find-links' requirements.lock || (echo "requirements.lock names a host"; exit 1)

.PHONY: types
types: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy .

.PHONY: format
format: $(INSTALLED) ## Put the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: messages
messages: $(INSTALLED) ## Collect the texts into locale/ and compile them; says which have no translation
	DJANGO_SETTINGS_MODULE=tests.typing_settings $(BIN)/python -m config.messages

.PHONY: lock
lock: $(INSTALLED) ## Write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra embedded --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --quiet --upgrade \
		--custom-compile-command "make lock" -o requirements.lock

.PHONY: clean
clean: ## Forget the virtual environment and all local data
	rm -rf .venv .seonchak

$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| (echo "Seonchak needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 1)
	@echo "Installing into .venv (once; about a minute) …"
	@$(PYTHON) -m venv .venv
	@# The exit status comes through the pipe as a line of its own: a pipe's is that of its last command.
	@{ $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes \
		-r requirements.lock 2>.venv/pip-errors; echo "Ended $$?"; } | $(SHOW_PIP) \
		|| { tail -n 20 .venv/pip-errors >&2; echo "The packages could not be installed." >&2; exit 1; }
	@touch $@
