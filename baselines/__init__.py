"""oodbench.baselines: one file per published method, through the contract a third party uses.

Importing a baseline imports neither torch nor numpy, so that the registry can list it at once.
"""
