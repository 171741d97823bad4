"""A simulation of the operator in virtual time, with an API server, KubeRay, Ray heads and a store in memory."""
