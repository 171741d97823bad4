"""Deterministic simulation of the engine in virtual time, with random faults that a seed decides."""
