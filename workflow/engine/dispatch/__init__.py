"""The part of a manager that knows Ray: it leases workers, sends them attempts, and receives their results."""
