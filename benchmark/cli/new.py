"""`oodbench new`: skeletons of plug-ins."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import Commands


@click.group(cls=Commands)
def new() -> None:
    """Skeletons to start from: new detector."""


@new.command("detector")
@click.argument("name")
@click.option(
    "--into", default=".", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Folder to write the package's folder NAME into.  [here]",
)  # fmt: skip
def new_detector(name: str, into: Path) -> None:
    """Write a package with a small working detector, its test and its entry point.

    Installed with `pip install -e`, it passes `oodbench check NAME` and runs as any other.
    """
    from oodbench.templates.skeleton import write_detector

    folder = write_detector(name, into)
    click.echo(f"{folder} is written; it has no LICENSE, which is yours to choose")
    click.echo(f"pip install -e {folder} && oodbench check {name}")
