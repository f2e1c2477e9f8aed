"""`oodbench new`: skeletons of plug-ins."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import Commands


@click.group(cls=Commands)
def new() -> None:
    """Skeletons to start from: new detector, new package, new slurm."""


into_option = click.option(
    "--into", default=".", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Folder to write the package's folder NAME into.  [here]",
)  # fmt: skip


@new.command("detector")
@click.argument("name")
@into_option
def new_detector(name: str, into: Path) -> None:
    """Write a package with a small working detector, its test and its entry point.

    Installed with `pip install -e`, it passes `oodbench check NAME` and runs as any other.
    """
    from oodbench.templates.skeleton import write_detector

    _tell(write_detector(name, into), name)


@new.command("package")
@click.argument("name")
@into_option
def new_package(name: str, into: Path) -> None:
    """Write a package with a detector, a model, its recipe and a suite, and tests of all.

    Installed with `pip install -e`, or built into a wheel, it brings the detector NAME, the model
    NAME-model with four scores, and the suite NAME.
    """
    from oodbench.templates.skeleton import write_package

    _tell(write_package(name, into), name)


@new.command("slurm", context_settings={"ignore_unknown_options": True})
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines.")
@click.option("--time", "time_", default="4:00:00", show_default=True, help="Limit of the job.")
@click.option("--cpus-per-node", type=click.IntRange(1), default=8, show_default=True,
              help="CPUs of each.")  # fmt: skip
@click.option("--gpus-per-node", default="", metavar="[TYPE:]N", help="GPUs of each, if any.")
@click.option("--partition", default="", metavar="NAME", help="Where Slurm queues it.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF RUN]...")
def new_slurm(
    nodes: int, time_: str, cpus_per_node: int, gpus_per_node: str, partition: str,
    command: tuple[str, ...],
) -> None:  # fmt: skip
    """Print an sbatch script that runs what `oodbench run` with these options would.

    A Ray cluster on all machines of the job; it saves and stops before the time is over and is
    queued again until everything is made.
    """
    from oodbench.cli.run import run
    from oodbench.templates.batch_jobs import slurm_script

    context = click.Context(run, info_name="oodbench run")
    run.make_parser(context).parse_args(list(command))  # its own errors, and nothing done yet
    for word in command:
        if word.partition("=")[0] in ("--executor", "--address", "--stop-after", "--jobs"):
            raise click.UsageError(f"{word} is what the script says itself")
    click.echo(
        slurm_script(
            command, nodes=nodes, cpus=cpus_per_node, gpus=gpus_per_node, partition=partition,
            time=time_,
        ),
        nl=False,
    )  # fmt: skip


def _tell(folder: Path, name: str) -> None:
    click.echo(f"{folder} is written; it has no LICENSE, which is yours to choose")
    click.echo(f"pip install -e {folder} && oodbench check {name}")
