"""The contract of a detector, who may be handed what, and prints of the source behind results."""
