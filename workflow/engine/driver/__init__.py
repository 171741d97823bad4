"""The driver process: creates runs, finds or creates the manager actor of its environment, and receives results."""
