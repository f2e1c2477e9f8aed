"""What a check may raise: a fault, nothing to say, something to think of."""

from __future__ import annotations


class NotConforming(Exception):
    """A check found a fault; the message is what was seen, `mend` replaces the check's own."""

    def __init__(self, seen: str, mend: str = "") -> None:
        super().__init__(seen)
        self.mend = mend


class NotApplicable(Exception):
    """A check has nothing to say of this detector; the message is the reason."""


class Reminder(Exception):
    """Something to think of that is no fault by itself."""
