"""A seeded simulation of the engine: the real managers on virtual time, a store and a cluster that fail as a seed says."""
