"""Sweeps: one setting of a recipe varied, every value fitted, what ID data choose, the oracle."""
