"""`oodbench export` and `oodbench score`: a trained detector in practice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import click

from oodbench.cli.options import (
    data_option,
    note_untrusted,
    overrides_of,
    plugin_option,
    set_option,
    store_option,
    trust_option,
)
from oodbench.errors import OodbenchError
from oodbench.media import csv_cell, terminal, terminal_lines
from oodbench.store.outputs import write_output

if TYPE_CHECKING:
    from oodbench.canonical_json import JSON


@click.command()
@click.argument("detector", metavar="NAME[@RECIPE][:SCORE]")
@click.option(
    "--pair",
    metavar="NAME",
    help="A pair; only its ID set matters.",
)
@click.option(
    "--in-dist",
    metavar="DATA",
    help="ID set: a name, an .npz file or a folder.",
)
@click.option("--score", default="", metavar="SCORE", help="The score, where there are several.")
@click.option("--scale", default="small", show_default=True, metavar="paper|small|smoke",
              help="Size of the recipe.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Training seed.")  # fmt: skip
@click.option(
    "--accept", "--tpr", "tpr", type=float, metavar="PERCENT",
    help="Share of ID images that the threshold accepts as in; the others are false alarms.  [95]"
    " (--tpr: the same, with ID as the positive class, where tables count OOD.)",
)  # fmt: skip
@click.option("--out", required=True, metavar="DIR", help="New folder for the export.")
@set_option
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="As it was trained with.")
@data_option
@store_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
@plugin_option
@click.option("--quiet", is_flag=True, help="No progress.")
@trust_option
def export(
    detector: str, pair: str | None, in_dist: str | None, score: str, scale: str, seed: int,
    tpr: float | None, out: str, settings: tuple[str, ...], precision: str | None,
    data: tuple[str, ...], store: str, device: str, quiet: bool, trust_imported: bool,
) -> None:  # fmt: skip
    """Write a trained detector to a folder, for `oodbench score`.

    What the store lacks (the fit, the scores of the ID test images) is made first, as by
    `oodbench run`. No OOD image is looked at.
    """
    from pathlib import Path

    from oodbench.datasets.loading import find_places
    from oodbench.deploy.exporting import export_detector, export_job, read_export
    from oodbench.flow.bench import Bench
    from oodbench.progress import Progress
    from oodbench.store.store import Store

    overrides = overrides_of(settings, precision)
    job = export_job(detector, pair, in_dist, score, scale, seed, overrides)
    if settings and not job.request.detector.recipe_variant:
        raise OodbenchError(f"--set changes a recipe, and {job.request.name} stands on none")
    progress = Progress("quiet" if quiet else None)
    opened = Store(store, trust_imported=trust_imported)
    bench = Bench(opened, find_places(data, store), progress, device)

    folder = export_detector(bench, job, Path(out), tpr)
    note_untrusted(opened)
    click.echo(terminal_lines(summary(read_export(folder)[0], str(folder))))


def summary(manifest: Mapping[str, JSON], folder: str) -> str:
    """What an export holds, in two lines."""
    parts = (manifest[name] for name in ("detector", "in_dist", "threshold"))
    detector, in_dist, threshold = (cast("Mapping[str, float]", part) for part in parts)
    return (
        f"{folder}: {detector['name']}, score {manifest['score']}, ID set {in_dist['name']}\n"
        f"in where score ≤ {threshold['value']:.6g}: {100 * threshold['accepted_of_id_test']:.1f} %"
        f" of {in_dist['test_images']:,} ID test images (asked: {threshold['accept_percent']:g} %);"
        " no OOD image was used"
    )


@click.command()
@click.argument("folder", metavar="DIR")
@click.argument("images", nargs=-1, required=True, metavar="IMAGES…")
@click.option("--grey", is_flag=True, help="Turn colour images to grey.")
@click.option("--rgb", is_flag=True, help="Three equal channels of grey images.")
@click.option("--resize", is_flag=True, help="The centre square, resized to the detector's size.")
@click.option("--crop", is_flag=True, help="Reduced to 5/4 of that size, and a window of it.")
@click.option("--nearest", is_flag=True, help="The whole image, by nearest neighbours.")
@click.option("--invert", is_flag=True, help="255 − x.")
@click.option(
    "--range",
    "values",
    metavar="LOW:HIGH",
    help="What black and white are, in pixels of more than 8 bits.",
)
@click.option(
    "--prepared", is_flag=True, help="The images went through the steps of the ID set already."
)
@click.option("--out", metavar="FILE", help="CSV file; default: standard output.")
@click.option("--skip-unreadable", is_flag=True, help="Mark images that cannot be read; go on.")
@click.option(
    "--noise", type=click.Choice(["image", "position"]), default="image", show_default=True,
    help="What random draws are keyed by: the image itself, or its place in the list.",
)  # fmt: skip
@click.option("--explain", "explained", metavar="DIR",
              help="A picture per image: what every pixel adds, KL per layer.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), help="Images per batch.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
@plugin_option
def score(
    folder: str, images: tuple[str, ...], out: str | None, skip_unreadable: bool, noise: str,
    explained: str | None, batch_size: int | None, device: str, values: str | None,
    prepared: bool, **steps: bool,
) -> None:  # fmt: skip
    """Score image files, folders and files of data with an exported detector, as CSV.

    They go through the steps that the ID set went through, after those that are asked for here.
    A "-" among IMAGES stands for paths on standard input, one a line, or with NUL between them.
    Columns: image, score (higher = more OOD), p_value against the ID test images, decision.
    """
    from pathlib import Path

    from oodbench.deploy.scoring import load_detector
    from oodbench.detect.explanations import explanation_of

    detector = load_detector(folder, device=device)
    chosen = [name for name, wanted in steps.items() if wanted]
    chosen += [f"range({values})"] if values else []
    listed = _with_standard_input(images)
    if explained is not None:
        explanation_of(detector.detector)  # before anything is scored
    frame = detector.score(
        listed, convert=chosen, prepared=prepared, noise=noise,
        skip_unreadable=skip_unreadable, batch_size=batch_size,
    )  # fmt: skip
    lost = int((frame["decision"] == "unreadable").sum())
    if lost:
        click.echo(f"oodbench: {lost:,} images cannot be read; they stand last", err=True)
    if explained is not None:
        from oodbench.deploy.explaining import explain

        paths = explain(detector, listed, Path(explained), frame, convert=chosen,
                        prepared=prepared, noise=noise)  # fmt: skip
        click.echo(terminal(f"{explained}: {len(paths):,} pictures and explained.csv"), err=True)
    text = frame.assign(image=frame["image"].map(csv_cell)).to_csv(index=False)
    if out is None:
        click.echo(text, nl=False)
        return
    write_output(out, text)


def _with_standard_input(images: Sequence[str]) -> list[str]:
    """The paths, those on standard input in the place of a ``-``; OodbenchError where none come."""
    import os
    import sys

    listed: list[str] = []
    for image in images:
        if image != "-":
            listed.append(image)
            continue
        data = b"" if sys.stdin is None else sys.stdin.buffer.read()
        parts = data.split(b"\0") if b"\0" in data else data.replace(b"\r\n", b"\n").split(b"\n")
        listed += [os.fsdecode(part) for part in parts if part.strip()]
    if not listed:
        raise OodbenchError("no path came on standard input; give one a line")
    return listed
