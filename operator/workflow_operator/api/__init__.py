"""The resources of group `rayworkflow.dev` as values. `crds/*.yaml` is generated from this package."""

from __future__ import annotations

GROUP = "rayworkflow.dev"
VERSION = "v1alpha1"
KIND = "Workflow"
PLURAL = "workflows"
API_VERSION = f"{GROUP}/{VERSION}"
