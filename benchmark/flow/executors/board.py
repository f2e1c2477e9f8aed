"""What is shown of a graph that is being made: a line for every running fit, and one for all.

Lines every few seconds; on a terminal they are drawn anew in place.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from oodbench.media import terminal
from oodbench.store.running.heartbeats import Beat, read_beat

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from oodbench.flow.bench import Bench
    from oodbench.flow.executors.graph import Graph
    from oodbench.flow.executors.steps import Step

#: Seconds between lines, and between two drawings on a terminal.
LINES_SECONDS, DRAWN_SECONDS = 15.0, 1.0


class Board:
    """Progress of a graph; `pace` corrects what steps were thought to take by what they took."""

    def __init__(self, bench: Bench, graph: Graph) -> None:
        self.progress, self.storage, self.graph = bench.progress, bench.store.storage, graph
        self.pace: dict[str, tuple[float, float]] = {}
        self.shown = time.monotonic()
        self._live: Live | None = None

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(terminal(line), markup=False, highlight=False)
        else:
            self.progress.say(line)

    def note(self, step: Step, seconds: float) -> None:
        """A step took so long."""
        thought, took = self.pace.get(step.stage, (0.0, 0.0))
        self.pace[step.stage] = (thought + step.seconds, took + seconds)

    def seconds(self, step: Step) -> float:
        """What a step will take, by what steps of its stage took so far."""
        thought, took = self.pace.get(step.stage, (0.0, 0.0))
        return step.seconds * (took / thought if thought > 0 else 1.0)

    def left(self, running: Mapping[str, float], made: Collection[str], slots: int) -> float:
        """Seconds until all is made: all that is left, spread over the workers."""
        now, total = time.time(), 0.0
        for key, step in self.graph.steps.items():
            if key not in made:
                spent = now - running[key] if key in running else 0.0
                total += max(0.0, self.seconds(step) - spent)
        return total / max(1, slots)

    def show(self, running: Mapping[str, float], made: Collection[str], slots: int) -> None:
        """Show how far everything is, where it is time to."""
        style = self.progress.style
        every = DRAWN_SECONDS if self._live is not None else LINES_SECONDS
        now = time.monotonic()
        if style == "quiet" or now - self.shown < every:
            return
        self.shown = now
        lines = [*self._running(running), self._whole(running, made, slots)]
        if self._live is not None:
            self._live.update(terminal_text(lines))
        else:
            for line in lines:
                self.progress.say(line)

    def _running(self, running: Mapping[str, float]) -> Iterator[str]:
        for key in running:
            step = self.graph.steps[key]
            if step.stage in ("fit", "measure"):
                beat = read_beat(self.storage, key)
                yield step.text if beat is None else beat_line(beat)

    def _whole(self, running: Mapping[str, float], made: Collection[str], slots: int) -> str:
        left = duration(self.left(running, made, slots))
        return (
            f"{len(made)} of {len(self.graph.steps)} steps are made, {len(running)} are running,"
            f" about {left} left"
        )

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Drawn in place meanwhile, where there is a terminal."""
        if self.progress.style != "bars":
            yield
            return
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(file=sys.stderr), auto_refresh=False, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None


def terminal_text(lines: list[str]) -> Text:
    """Lines for a terminal, one a row, cut where it is narrower."""
    from rich.text import Text

    return Text("\n".join(terminal(line) for line in lines), no_wrap=True, overflow="ellipsis")


def beat_line(beat: Beat) -> str:
    """A running step in one line: how far it is, its figures, what is left, and where."""
    done = f": {beat.done:,}/{beat.total:,}" if beat.total else ""
    figures = "".join(f", {name} {value}" for name, value in beat.figures.items())
    left = "" if beat.left is None else f", {duration(beat.left)} left"
    return f"{beat.text}{done}{figures}{left} ({beat.host})"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
