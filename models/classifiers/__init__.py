"""Classifiers: of the ID classes, through a bottleneck, and of mutated images."""
