"""Developer tooling beside Python: servers built from source and a Kubernetes cluster on one machine.

The Makefile and the tests use this package. It is not shipped to users.
"""
