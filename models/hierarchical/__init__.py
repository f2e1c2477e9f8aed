"""Hierarchical VAEs: HVAE, LVAE, BIVA, their stages, objectives and diagnostics of collapse."""
