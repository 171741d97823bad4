"""The resources of group `rayworkflow.dev` as values: the one source of `crds/*.yaml`."""

from __future__ import annotations

GROUP = "rayworkflow.dev"
VERSION = "v1alpha1"
KIND = "Workflow"
PLURAL = "workflows"
API_VERSION = f"{GROUP}/{VERSION}"
