"""The Kubernetes operator that runs `Workflow` objects on Ray clusters through KubeRay.

The folder `operator/` must not contain an `__init__.py`, because it would shadow the standard library's `operator`.
"""
