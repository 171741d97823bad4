"""The engine: what happens in the processes of a workflow.

`driver` starts runs and waits for them. `owner` is the manager, which owns runs and stores their logs. `dispatch` sends
the steps of a manager to the cluster. `worker` executes them. The modules in this folder are shared by these packages.
"""
