"""The Kubernetes operator that runs `Workflow` objects through KubeRay.

`operator/` itself never gets an `__init__.py`: with one it would shadow the standard library's `operator`.
"""
