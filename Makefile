# Every target works from any directory (make -C) and without a terminal, and prints one line per stage.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
ROOT := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))
PYTHON ?= python3
IN := cd $(ROOT) &&
PY := $(IN) .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help
help:  ## list all targets
	@grep -hE '^[a-z-]+:.*##' $(ROOT)/Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 18

.PHONY: venv
venv:  ## create .venv in the checkout; reinstall it only if pyproject.toml changed
	@$(IN) $(PYTHON) -m dev.venv

# --- local cluster (dev/README.md) ---
.PHONY: cluster-up cluster-down cluster-status
cluster-up: venv  ## start Kubernetes with KubeRay on this machine; prints its KUBECONFIG
	@$(PY) -m dev.cluster up

cluster-down: venv  ## remove the cluster with its processes, mounts, bridge and firewall rules
	@$(PY) -m dev.cluster down

cluster-status: venv  ## list the parts of the cluster and whether they run
	@$(PY) -m dev.cluster status

# --- checks that every change must pass ---
.PHONY: check
check: venv  ## lint, format, types, import contracts and sizes; under a minute with a warm cache
	@$(PY) -m dev.checks

# --- tests ---
.PHONY: test
test: venv  ## all setup and all test suites; SUITES="unit repo" selects suites
	@$(PY) -m dev.testing $(SUITES)

.PHONY: test-matrix
test-matrix: venv  ## unit tests and specification snippets on each supported Python and Ray version
	@$(PY) -m dev.matrix

# --- mutation tests (CONTRIBUTING.md) ---
.PHONY: mutants
mutants: venv  ## change the pure modules, list changes that no test notices; MINUTES=30 MODULES="workflow/log/claim.py"
	@$(IN) .venv/bin/uv pip install --quiet --python .venv/bin/python --group mutants
	.venv/bin/python -m dev.mutants --minutes $(or $(MINUTES),30) $(MODULES)

# --- soak test ---
.PHONY: soak

soak: venv  ## simulate engine and operator with many seeds, then 30 minutes of faults on the local cluster; SEED=1
	@$(PY) -m tests.faults.soak --seeds 10000
	@$(PY) -m tests.support.operator_simulation.soak --seeds 5000
	@$(PY) -m tests.e2e.chaos --minutes 30 $(if $(SEED),--seed $(SEED))

# --- benchmarks ---
.PHONY: bench
bench: venv  ## compare the speed with ray.workflow of Ray 2.47 and with plain Ray tasks
	@$(PY) bench/run.py

.PHONY: scale
scale: venv  ## many steps in a run and many runs in a manager: rates, memory, replay, storage requests
	@$(PY) bench/scale.py

.PHONY: profile
profile: venv  ## profile an empty step, and measure its parts separately
	@$(PY) bench/profile_step.py

.PHONY: large
large: venv  ## pass 1 GiB between steps: transfer rates, memory of workers and manager
	@$(PY) bench/large_value.py

# --- demo ---
.PHONY: demo
demo: venv  ## kill the head of a running Workflow and resume it on a new cluster
	@$(PY) -m dev.demo

# --- CRDs, generated from the models of the operator ---
.PHONY: crds
crds: venv  ## generate crds/ from the models of the operator, and copy them into the chart
	@$(IN) PYTHONPATH=operator .venv/bin/python -m workflow_operator.api.crds crds
	cp crds/*.yaml charts/rayworkflow-crds/files/

# --- release notes: from the fragments in changes/ (changes/README.md) ---
.PHONY: news changelog
news: venv  ## print the notes of the next release
	@$(IN) .venv/bin/towncrier build --draft

changelog: venv  ## move the fragments in changes/ into CHANGELOG.md, under the version in pyproject.toml
	@$(IN) .venv/bin/towncrier build --yes
