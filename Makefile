# Everything starts here; `make help` lists it. Only make and Python 3.11, 3.12 or 3.13 are needed:
# every target that needs the environment .venv builds it first, or finds it ready.
#
#   PROFILE=cpu|gpu      which build of vLLM (default: gpu where an NVIDIA driver answers)
#   EXTRAS=scale         with what is optional: scale (Ray) for notebook 14; `make test` has it all
#   PYTHON=python3.12    which Python builds .venv (default: the first that will do)
#   LAB_FLAGS=...        more flags for JupyterLab, such as --no-browser or --port 8899
#   PYTEST_FLAGS=...     more flags for pytest, such as -k client or tests/unit
#   LOCK_FLAGS=...       --keep moves only the pins that have to move
#   CHECK_FLAGS=...      for make gpu-check: --write stores its table, --card T4 checks one card
#   BENCH_FLAGS=...      flags for benchmarks/run.py, such as --quick
#   REPO=owner/name      for make badges: the published copy that they open; none takes them out
#   BRANCH=main          its branch or tag

SHELL := /bin/sh
BIN := $(CURDIR)/.venv/bin
PROFILE ?=
PYTHON ?=
EXTRAS ?=
SETUP_FLAGS = $(if $(PROFILE),--profile $(PROFILE)) $(if $(PYTHON),--this-python) \
  $(if $(EXTRAS),--extras $(EXTRAS))
LINTED := conftest.py src tests training scripts benchmarks notebooks

# Images of containers set it, and then every Python compiles anew whatever it imports.
unexport PYTHONDONTWRITEBYTECODE

# Programs of the environment come first, so that a terminal in JupyterLab knows `vllm`.
IN_VENV = PATH="$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv"

.DEFAULT_GOAL := help
.PHONY: help setup lab demo test lint bench gpu-check badges site translations stop lock

help: ## List these targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# The first Python that will do; if none does, the first that was named, which says why it does not.
PYTHONS = $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
FIND_PYTHON = python=$(firstword $(PYTHONS)); for each in $(PYTHONS); do \
	  if "$$each" scripts/setup_env.py --probe >/dev/null 2>&1; then python=$$each; break; fi; done

setup: ## Build the environment .venv, or find it ready.
	@$(FIND_PYTHON); exec "$$python" scripts/setup_env.py $(SETUP_FLAGS)

# JUPYTER_PREFER_ENV_PATH: the kernel python3 is that of .venv, whatever the user has installed.
# The root is the clone: the notebooks link to its other folders. A kernel runs in its notebook's.
lab: setup ## Open JupyterLab on the first notebook.
	@$(IN_VENV) JUPYTER_PREFER_ENV_PATH=1 "$(BIN)/jupyter" lab --ServerApp.ip=127.0.0.1 \
	  --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_FLAGS)

demo: setup ## Launch a server and print the three forms of a score request.
	@$(IN_VENV) "$(BIN)/python" -m helpers --launch

test: override EXTRAS = all
test: lint ## Check the style and run every test, the notebooks too.
	@$(IN_VENV) "$(BIN)/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

lint: setup ## Check style, types, and which room of the helpers uses which.
	@"$(BIN)/ruff" check $(LINTED)
	@"$(BIN)/ruff" format --check $(LINTED)
	@"$(BIN)/lint-imports" --no-cache
	@"$(BIN)/mypy" src/helpers

bench: setup ## Measure this server and client against their peers (some minutes).
	@$(IN_VENV) "$(BIN)/python" benchmarks/run.py $(BENCH_FLAGS)

gpu-check: setup ## Hold the commands for many GPUs against vLLM's GPU build (no GPU; 4.3 GB).
	@$(IN_VENV) "$(BIN)/python" scripts/gpu_check.py $(CHECK_FLAGS)

badges: setup ## Write "Open in Colab" and the like into the notebooks.
	@"$(BIN)/python" scripts/badges.py --branch "$(or $(BRANCH),main)" -- "$(REPO)"

site: setup ## Build the site from the stored notebooks and pages (SITE_FLAGS=--serve shows it).
	@"$(BIN)/python" scripts/build_site.py $(if $(REPO),--repo "$(REPO)") \
	  --branch "$(or $(BRANCH),main)" $(SITE_FLAGS)

translations: setup ## Bring the Chinese edition up to date with its units.
	@"$(BIN)/python" scripts/translations.py update
	@"$(BIN)/python" scripts/translations.py build

stop: ## End every score server that the notebooks left running.
	@if [ -x "$(BIN)/python" ]; then "$(BIN)/python" -m helpers stop; \
	else echo "There is no .venv here, so this clone has started no server."; fi

# uv resolves for every supported Python, whichever runs it.
lock: ## Recompile requirements/ from pyproject.toml.
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; $(FIND_PYTHON); \
	"$$python" -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install --quiet packaging 'uv>=0.13,<0.14'; \
	"$$folder/bin/python" scripts/lock.py $(LOCK_FLAGS)
