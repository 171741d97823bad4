"""A seeded simulation of the engine: real managers in virtual time, a store and clusters that fail as it says."""
