"""Starts the operator: `python -m workflow_operator`."""

from workflow_operator.main import main

main()
