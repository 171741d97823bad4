# Every target works from any directory (make -C), without a terminal, and says in one line a stage what it does.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
ROOT := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))
PYTHON ?= python3
IN := cd $(ROOT) &&
PY := $(IN) .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(ROOT)/Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 18

.PHONY: venv
venv:  ## .venv in the checkout, installed anew only when pyproject.toml changes
	@$(IN) $(PYTHON) -m dev.venv

# --- the local cluster (dev/README.md) ---
.PHONY: cluster-up cluster-down cluster-status
cluster-up: venv  ## a real Kubernetes with KubeRay on this machine; prints its KUBECONFIG
	@$(PY) -m dev.cluster up

cluster-down: venv  ## take it down; leaves no process, mount, bridge or firewall chain
	@$(PY) -m dev.cluster down

cluster-status: venv  ## what of it runs
	@$(PY) -m dev.cluster status

# --- check: what a change must pass before it is looked at ---
.PHONY: check
check: venv  ## lint, format, types, contracts between the rooms, sizes; under a minute when warm
	@$(PY) -m dev.checks

# --- test: all set-up and all tests ---
.PHONY: test
test: venv  ## all set-up and all suites, then a table; SUITES="unit repo" runs some of them
	@$(PY) -m dev.testing $(SUITES)

.PHONY: test-matrix
test-matrix: venv  ## unit tests and the specification's snippets on every Python and Ray supported
	@$(PY) -m dev.matrix

# --- soak ---
.PHONY: soak
soak: venv  ## 10,000 seeds of the engine's simulation, in two processes
	@$(PY) -m tests.faults.soak --seeds 10000

# --- bench ---
.PHONY: bench
bench: venv  ## speed in pairs against ray.workflow of Ray 2.47 and plain Ray tasks
	@$(PY) bench/run.py

.PHONY: scale
scale: venv  ## many steps in a run, many runs in a manager: rates, memory, replay, storage requests
	@$(PY) bench/scale.py

.PHONY: profile
profile: venv  ## where the time of a step that does nothing goes, and what its parts cost alone
	@$(PY) bench/profile_step.py

.PHONY: large
large: venv  ## 1 GiB from one step to the next: rates, and the memory of workers and manager
	@$(PY) bench/large_value.py

# --- demo: the main job, end to end ---
.PHONY: demo
demo: venv  ## a cluster, the operator, a Workflow whose head is killed, and its end on a new cluster
	@$(PY) -m dev.demo

# --- crds: generated from the operator's models ---
.PHONY: crds
crds: venv  ## write crds/ from the operator's models, and pack them into the chart
	@$(IN) PYTHONPATH=operator .venv/bin/python -m workflow_operator.api.crds crds
	cp crds/*.yaml charts/rayworkflow-crds/files/

# --- release notes: from the fragments in changes/ (changes/README.md) ---
.PHONY: news changelog
news: venv  ## print the notes of the next release
	@$(IN) .venv/bin/towncrier build --draft

changelog: venv  ## move the fragments in changes/ into CHANGELOG.md, under the version in pyproject.toml
	@$(IN) .venv/bin/towncrier build --yes
