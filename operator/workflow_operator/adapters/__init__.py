"""Adapters to external systems: Kubernetes, KubeRay, Ray's Jobs API and storage. They do not depend on each other."""
