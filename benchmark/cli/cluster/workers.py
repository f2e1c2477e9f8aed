"""--executor, --jobs and what each fit is given: who makes the steps of a run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

import click

from oodbench.cli.options import to_nowhere
from oodbench.media import terminal

if TYPE_CHECKING:
    from oodbench.errors import OodbenchError
    from oodbench.flow.executors.crews.workers import Workers

#: Bytes of the units of memory.
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class WorkerOptions(TypedDict):
    """What `worker_options` hands to a command."""

    executor: str
    jobs: int
    address: str
    cpus_per_fit: int
    gpus_per_fit: float | None
    memory_per_fit: int


def worker_options(function: click.decorators.FC) -> click.decorators.FC:
    """Who makes the steps; see `oodbench.flow.executors.crews.workers.Workers`."""
    options = (
        click.option("--executor", type=click.Choice(["local", "ray"]), default="local",
                     show_default=True, help="Who makes the steps: this machine, or a Ray cluster"
                     " (needs the extra oodbench[ray])."),
        click.option("--jobs", type=click.IntRange(1), default=1, show_default=True,
                     help="Processes on this machine, each of --cpus-per-fit threads."),
        click.option("--address", default="", metavar="ADDRESS", help="The Ray cluster: auto, or"
                     " HOST:PORT.  [Ray on this machine alone]"),
        click.option("--cpus-per-fit", type=click.IntRange(1), default=1, show_default=True,
                     help="CPUs, and so threads, of a fit or a measurement."),
        click.option("--gpus-per-fit", type=click.FloatRange(0), help="GPUs of a fit or a"
                     " measurement, such as 0.25.  [1 where the cluster has any]"),
        click.option("--memory-per-fit", default="0", callback=_memory, metavar="SIZE",
                     help="Memory that Ray sets aside for each, such as 8G."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _memory(_: click.Context, __: click.Parameter, text: str) -> int:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise click.BadParameter(f"{text!r} is no size; write 8G or 500M")
    return int(float(found[1]) * UNITS[found[2]])


def make_workers(options: WorkerOptions) -> Workers:
    """The workers that the options of a command describe; ConfigError where they contradict."""
    from oodbench.flow.executors.crews.workers import Workers

    workers = Workers(
        options["executor"], options["jobs"], options["address"], options["cpus_per_fit"],
        options["gpus_per_fit"], options["memory_per_fit"],
    )  # fmt: skip
    workers.check()
    return workers


@contextmanager
def failures_last(failures: Sequence[OodbenchError]) -> Iterator[None]:
    """What could not be made, one a line, after what is printed inside; then status 1."""
    if not failures:
        yield
        return
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        to_nowhere()
    messages = dict.fromkeys(" ".join(str(failure).split()) for failure in failures)
    for message in messages:
        click.echo(f"oodbench: failed: {terminal(message)}", err=True)
    what = "step" if len(messages) == 1 else "steps"
    click.echo(
        f"oodbench: {len(messages)} {what} could not be made; the same command tries again",
        err=True,
    )
    raise SystemExit(1)
