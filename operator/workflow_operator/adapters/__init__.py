"""What the operator reaches: Kubernetes, KubeRay, Ray's Jobs API, storage. The modules do not know each other."""
