"""`oodbench new`: skeletons of plug-ins."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import Commands


@click.group(cls=Commands)
def new() -> None:
    """Skeletons to start from: new detector, new package."""


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


def _tell(folder: Path, name: str) -> None:
    click.echo(f"{folder} is written; it has no LICENSE, which is yours to choose")
    click.echo(f"pip install -e {folder} && oodbench check {name}")
