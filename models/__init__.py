"""oodbench.models: the networks and likelihoods, usable on their own.

Nothing here imports the rest of oodbench, and importing this package does not import torch: the
configuration classes stand in `oodbench.models.config`, the networks in modules of their own.
"""
