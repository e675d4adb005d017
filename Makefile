# Two commands on a fresh machine that has Python >= 3.10, pip and make:
#
#   make demo    what goes wrong without landed, and what it does about it (under a minute)
#   make test    the whole suite
#
# Both first put uv and tox into .make/; nothing is installed outside this directory and the download cache.

PYTHON ?= python3
TOX := .make/tox/bin/tox
# Interpreters that pyenv installed count as well, after those of the PATH.
export PATH := $(PATH)$(shell printf ':%s' "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[0-9].*/bin)

# CrewAI does not run on Python 3.14 yet; there the demo leaves its two incidents out.
DEMO = $(shell $(PYTHON) -c 'import sys; print("demo" if sys.version_info < (3, 14) else "demo-small")')

.PHONY: demo test checks core-all core integration langgraph langgraph-all crewai claude-code engines faults crash soak survival mutants docs bench clean

demo: $(TOX)
	@test -d .tox/$(DEMO) || echo "Installing LangGraph, CrewAI and what they need into .tox/$(DEMO) (some 900 MB, once)"
	@test -d .tox/$(DEMO) || $(TOX) run-parallel --parallel 1 -e $(DEMO) --notest
	@$(TOX) run -qq -e $(DEMO)

# The longest comes second, for who lets two run beside each other: make --jobs 2 test
test: checks faults core-all integration langgraph crewai claude-code engines

checks: $(TOX)  # these use one core each
	$(TOX) run-parallel --parallel 2 --parallel-no-spinner -e lint,types,types-crewai,types-langgraph,package,docs

core-all: $(TOX)  # each uses all cores, so one after the other
	$(TOX) run -e core-py310,core-py311,core-py312,core-py313

core: $(TOX)
	$(TOX) run -e core

integration: $(TOX)
	$(TOX) run -e integration

langgraph: $(TOX)  # each uses two cores
	$(TOX) run -m langgraph

langgraph-all: $(TOX)  # every line on every Python: over half an hour
	$(TOX) run -m langgraph-all

crewai: $(TOX)  # each uses two cores
	$(TOX) run -e crewai-py310-oldest,crewai-py313-latest,crewai-py312-oldest,crewai-py311-latest,crewai-memory

engines: $(TOX)
	$(TOX) run -e engines

claude-code: $(TOX)  # the hook on the real Claude Code
	$(TOX) run -e claude-code

faults: $(TOX)
	$(TOX) run -e faults

soak: $(TOX)  # MINUTES=n
	@$(TOX) run -qq -e soak -- --minutes $(or $(MINUTES),10)

survival: $(TOX)  # what survives what, ours and theirs
	@$(TOX) run -qq -e survival

mutants: $(TOX)  # which test sees which planted bug; minutes, more when many are new
	@$(TOX) run -qq -e mutants

crash: $(TOX)  # power cuts by the thousand; the seed is printed
	@$(TOX) run -qq -e crash

docs: $(TOX)  # into site/
	$(TOX) run -e docs

# Side by side with the peers; docs/benchmarks.md is made of what it writes. QUICK= takes the full number of rounds.
# On a Python as users have it: those that pyenv builds are not optimised by profile, unless one asks.
QUICK ?= --quick
BENCH_PYTHON ?= $(shell for each in /usr/bin/python3 $(PYTHON); do $$each -c \
	'import sys; sys.exit(sys.version_info < (3, 10) or print(sys.executable))' 2>/dev/null && break; done)
# What a flush takes where they are measured a second time; rented disks take 0.5 to 2 ms.
FLUSH_MS ?= 1
BENCH = $(TOX) run -qq -x testenv.base_python=$(BENCH_PYTHON) -e
OWN_DISK = cd integration_tests/faults && ../../.tox/bench-disk/bin/python -m lab.own_disk
bench: $(TOX)
	@mkdir -p .benchmarks; rm -f .benchmarks/*.json
	@failed=; for each in core journal langgraph crewai claude engines; do \
		$(BENCH) bench-$$each -- $(QUICK) --json .benchmarks/$$each.json || failed="$$failed $$each"; \
	done; \
	$(BENCH) bench-disk --notest; \
	if why=$$($(OWN_DISK) --flush-ms $(FLUSH_MS) true 2>&1); then for each in core journal langgraph; do \
		$(BENCH) bench-$$each -- $(QUICK) --flush-ms $(FLUSH_MS) --json .benchmarks/$$each-slow.json \
			|| failed="$$failed $$each-slow"; \
	done; else echo "not measured on a disk whose flush takes $(FLUSH_MS) ms: $$why"; fi; \
	$(PYTHON) tools/benchmarks_page.py --summary .benchmarks; \
	[ -z "$$failed" ] || { echo "not measured:$$failed"; exit 1; }

clean:
	rm -rf .make .tox site

# pip brings uv, and uv the rest: this needs neither ensurepip nor a recent pip, and leaves the user's Python alone.
$(TOX):
	@$(PYTHON) -c 'import sys; sys.exit("landed needs Python 3.10 or newer; try make PYTHON=...") if sys.version_info < (3, 10) else 0'
	@echo "Putting uv and tox into .make/ (once)"
	@$(PYTHON) -m pip install -qq --upgrade --target .make/uv uv
	@.make/uv/bin/uv venv -q --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .make/tox
	@.make/uv/bin/uv pip install -q --python .make/tox tox tox-uv
