"""Progress on the screen: rich bars on a terminal, plain lines elsewhere, nothing when quiet.

Everything goes to standard error, so that standard output holds the table alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_SECONDS = 15.0


class Task:
    """One running step; `advance` reports work done and named figures beside it."""

    def advance(self, amount: int, figures: Mapping[str, str] | None = None) -> None:
        """`amount` more units are done."""


class _PlainTask(Task):
    def __init__(self, label: str, total: int, done: int) -> None:
        self.label, self.total, self.done = label, total, done
        self.first = done
        self.started = self.shown = time.monotonic()

    def advance(self, amount: int, figures: Mapping[str, str] | None = None) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.shown < LINE_SECONDS and self.done < self.total:
            return
        self.shown = now
        spent = now - self.started
        left = spent / max(1, self.done - self.first) * (self.total - self.done)
        extra = "".join(f", {k} {v}" for k, v in (figures or {}).items())
        text = f"{self.label}: {self.done}/{self.total}{extra}, {spent:.0f} s"
        sys.stderr.write(text + (f", {left:.0f} s left\n" if left >= 1 else "\n"))
        sys.stderr.flush()


class _RichTask(Task):
    def __init__(self, bar: RichProgress, label: str, total: int, done: int) -> None:
        self.bar = bar
        self.number = bar.add_task(label, total=total, completed=done, figures="")
        self.shown = 0.0

    def advance(self, amount: int, figures: Mapping[str, str] | None = None) -> None:
        text = "  ".join(f"{k} {v}" for k, v in (figures or {}).items())
        self.bar.update(self.number, advance=amount, figures=text)


class Progress:
    """Hands out tasks; `style` is ``bars``, ``lines`` or ``quiet``, by default by the terminal."""

    def __init__(self, style: str | None = None) -> None:
        self.style = style or ("bars" if sys.stderr.isatty() else "lines")
        self.prefix = ""

    def say(self, line: str) -> None:
        """One line to the reader."""
        if self.style != "quiet":
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    @contextmanager
    def task(
        self, label: str, total: int, done: int = 0, figures: Sequence[str] = ()
    ) -> Iterator[Task]:
        """A step of `total` units of which `done` are done already."""
        label = f"{self.prefix}{label}"
        if self.style == "quiet":
            yield Task()
        elif self.style == "lines":
            yield _PlainTask(label, total, done)
        else:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
            )
            with Bar(*columns, console=Console(stderr=True)) as bar:
                yield _RichTask(bar, label, total, done)
