"""The command line: one module a command, and what they share; heavy imports happen inside them."""

from oodbench.cli.root import main, oodbench

__all__ = ["main", "oodbench"]
