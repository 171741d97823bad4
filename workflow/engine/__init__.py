"""The engine: the manager that owns runs, the workers that execute steps. With `api` and above, what knows Ray."""
