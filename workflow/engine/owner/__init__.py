"""The manager process: owns runs, plans their next steps and stores every decision in their logs.

`manager` is the entry. `owned_runs` decides which runs the manager drives, and `run_loop` drives one of them.
This package never imports Ray: it reaches the cluster through the `Runner` port of `run_loop`.
"""
