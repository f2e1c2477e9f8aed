"""Logs of a training in the forms of other tools; each imports its tool when it is made."""
