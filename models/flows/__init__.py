"""Normalising flows: Glow."""
