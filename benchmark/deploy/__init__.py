"""A trained detector in practice: exported as a folder of its own, and scoring new images."""
