"""d. F3 informative at scale `paper` for the time that is left, measured on the papers' sets."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from session import Session

import oodbench
from oodbench.canonical_json import JSON
from oodbench.share.transfer import export_records
from oodbench.store.provenance import machine_record
from oodbench.store.store import Store
from oodbench.train.training import Runtime, _Loop

#: The share of the time that training may take; the rest is for measuring and for what is late.
SHARE = 0.75
GOAL = 60
OOD = ("mnist", "notmnist", "omniglot")
#: A file that stands for a set whose own archive would have to be fetched.
FILES = {"omniglot": "omniglot-small-28.npz"}


def paper_recipe(session: Session) -> None:
    """Train, measure, rank; a table, the records, and epochs, device and time beside them."""
    recipe = session.recipe("F3", "informative")
    images = session.images("fashionmnist", "train", 10**9)
    epochs = session.sizes.epochs or affordable(session, images.shape[0])
    folder, started = session.folder("paper"), time.monotonic()
    frame = oodbench.run(
        in_dist="fashionmnist", ood=[place(session, name) for name in OOD],
        detectors="informative-hvae@F3", scale=session.sizes.scale, data=list(session.data),
        overrides={"training": {"epochs": epochs}}, store=session.out / "store",
        device=session.device, quiet=True,
    )  # fmt: skip
    frame.to_csv(folder / "F3-informative.csv", index=False)
    store = Store(session.out / "store")
    export_records(store, folder / "F3-informative-runs.tar", list(store.entries("run")))
    trained = next(iter(store.entries("fit"))).record
    figures: dict[str, JSON] = {
        "epochs": epochs, "of": recipe.training.epochs, "seconds": time.monotonic() - started,
        "training_images_per_second": trained["images_per_second"],
        "arithmetic": trained["arithmetic"], "machine": machine_record(session.device),
    }  # fmt: skip
    met = epochs >= GOAL if session.on_gpu else None
    session.write("F3 informative", goal=GOAL, met=met, **figures)
    chosen = frame[(frame["metric"] == "auroc") & frame["score"].isin(["LLR_ada", "L"])]
    for row in chosen.itertuples():
        session.write(f"AUROC, {row.pair}, {row.score}", percent=float(row.value))


def affordable(session: Session, images: int) -> int:
    """Epochs that fit into the time that is left, by the time of a few steps."""
    recipe, shape = session.recipe("F3", "informative"), session.shape("F3")
    some = session.images("fashionmnist", "train", 4 * recipe.training.batch_size)
    loop = _Loop(lambda: recipe.build(shape), some, recipe.training, 0,
                 session.folder("d-pace"), Runtime(session.device))  # fmt: skip
    loop.resume()
    steps = session.sizes.steps
    with torch.random.fork_rng():
        loop._one_step(0)
        session.wait()
        start = time.monotonic()
        for step in range(1, steps + 1):
            loop._one_step(step)
        session.wait()
    pace = (time.monotonic() - start) / (steps * recipe.training.batch_size)
    return max(1, min(recipe.training.epochs, int(SHARE * session.left / (pace * images))))


def place(session: Session, name: str) -> str:
    """The set by its name, or a file in the data folders that stands for it."""
    files = [Path(folder) / FILES[name] for folder in session.data if name in FILES]
    return next((str(file) for file in files if file.is_file()), name)
