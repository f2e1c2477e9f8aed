"""Progress on the screen: bars on a terminal and in a notebook, plain lines elsewhere.

Everything goes to standard error, so that standard output holds the table alone; in a notebook,
where standard error is framed as a fault, lines go to standard output and the bar is an output of
its own that is redrawn in place.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from oodbench.media import terminal

if TYPE_CHECKING:
    from IPython.display import DisplayHandle
    from rich.progress import Progress as RichProgress

LINE_SECONDS = 15.0
#: Between two drawings of a notebook's bar; each is a message that the notebook keeps up with.
REDRAW_SECONDS = 0.2
#: Between two looks at the figures beside a terminal's bar, for which a GPU has to be waited for.
FIGURES_SECONDS = 0.5

#: Named figures, or what gives them; it is called only where they are shown.
Figures = Mapping[str, str] | Callable[[], Mapping[str, str]]


class Task:
    """One running step; `advance` reports work done and named figures beside it."""

    def advance(self, amount: int, figures: Figures | None = None) -> None:
        """`amount` more units are done."""


def _of(figures: Figures | None) -> Mapping[str, str]:
    return (figures() if callable(figures) else figures) or {}


class _PlainTask(Task):
    def __init__(self, label: str, total: int, done: int) -> None:
        self.label, self.total, self.done = label, total, done
        self.first = done
        self.started = self.shown = time.monotonic()

    def advance(self, amount: int, figures: Figures | None = None) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.shown < LINE_SECONDS and self.done < self.total:
            return
        self.shown = now
        spent = now - self.started
        left = spent / max(1, self.done - self.first) * (self.total - self.done)
        extra = "".join(f", {k} {v}" for k, v in _of(figures).items())
        text = f"{self.label}: {self.done}/{self.total}{extra}, {spent:.0f} s"
        sys.stderr.write(text + (f", {left:.0f} s left\n" if left >= 1 else "\n"))
        sys.stderr.flush()


class _RichTask(Task):
    def __init__(self, bar: RichProgress, label: str, total: int, done: int) -> None:
        self.bar = bar
        self.number = bar.add_task(label, total=total, completed=done, figures="")
        self.left, self.shown = total - done, 0.0

    def advance(self, amount: int, figures: Figures | None = None) -> None:
        self.left -= amount
        now = time.monotonic()
        if figures is None or (now - self.shown < FIGURES_SECONDS and self.left > 0):
            self.bar.update(self.number, advance=amount)
            return
        self.shown = now
        text = "  ".join(f"{k} {v}" for k, v in _of(figures).items())
        self.bar.update(self.number, advance=amount, figures=text)


class _NotebookTask(Task):
    """A bar in one display of the cell, which task after task draws anew; needs no widgets."""

    def __init__(self, display: DisplayHandle, label: str, total: int, done: int) -> None:
        self.display, self.label, self.total, self.done = display, label, total, done
        self.first, self.started, self.shown = done, time.monotonic(), 0.0
        self._draw("")

    def advance(self, amount: int, figures: Figures | None = None) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.shown < REDRAW_SECONDS and self.done < self.total:
            return
        self.shown = now
        left = (now - self.started) / max(1, self.done - self.first) * (self.total - self.done)
        extra = "".join(f", {k} {v}" for k, v in _of(figures).items())
        self._draw(extra + (f", {left:.0f} s left" if left >= 1 else ""))

    def _draw(self, extra: str) -> None:
        text = f"{self.label}: {self.done}/{self.total}{extra}"
        bar = f'<progress value="{self.done}" max="{self.total}"></progress> {html.escape(text)}'
        self.display.update({"text/plain": text, "text/html": bar}, raw=True)


class Progress:
    """Hands out tasks.

    `style` is ``bars``, ``notebook``, ``lines`` or ``quiet``; by default what fits the output.
    """

    def __init__(self, style: str | None = None) -> None:
        self.style = style or _fitting_style()
        self.prefix = ""
        self._display: DisplayHandle | None = None

    def say(self, line: str) -> None:
        """One line to the reader."""
        if self.style != "quiet":
            out = sys.stdout if self.style == "notebook" else sys.stderr
            out.write(terminal(line) + "\n")
            out.flush()

    @contextmanager
    def task(
        self, label: str, total: int, done: int = 0, figures: Sequence[str] = ()
    ) -> Iterator[Task]:
        """A step of `total` units of which `done` are done already."""
        label = terminal(f"{self.prefix}{label}")
        if self.style == "quiet":
            yield Task()
        elif self.style == "lines":
            yield _PlainTask(label, total, done)
        elif self.style == "notebook":
            yield _NotebookTask(self._notebook_display(), label, total, done)
        else:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}", markup=False),
                TimeRemainingColumn(),
            )
            with Bar(*columns, console=Console(stderr=True)) as bar:
                yield _RichTask(bar, label, total, done)

    def _notebook_display(self) -> DisplayHandle:
        """The one display of this progress, in the cell that first needs it."""
        if self._display is None:
            from IPython.display import DisplayHandle

            self._display = DisplayHandle()
            self._display.display({"text/plain": ""}, raw=True)
        return self._display


def _fitting_style() -> str:
    """``notebook`` in a Jupyter kernel, ``bars`` on a terminal, else ``lines``."""
    shell = sys.modules.get("IPython")
    kernel = shell.get_ipython() if shell is not None else None
    if kernel is not None and hasattr(kernel, "kernel"):
        return "notebook"
    return "bars" if sys.stderr.isatty() else "lines"
