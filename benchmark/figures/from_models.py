"""Builders of the figures that decode, sample or encode with stored weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from oodbench.errors import ConfigError
from oodbench.figures.chosen_runs import Chosen
from oodbench.figures.embedding import PERPLEXITY, Embedded, embed, tsne_figure
from oodbench.figures.fitted import Fitted
from oodbench.figures.inputs import Material
from oodbench.figures.pictures import Grid, grid_figure
from oodbench.seeding import derive_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oodbench.datasets.imageset import ImageSet

COLUMNS = 5
DRAWS = 8
PRIOR_SIDE = 8
TSNE_IMAGES = 1000


def _fixed(images: ImageSet, count: int) -> np.ndarray:
    """`count` sorted indices of a split, always the same."""
    order = np.random.default_rng(derive_seed("figure", images.split, len(images)))
    return np.sort(order.permutation(len(images))[:count])


def _shown(material: Material, images: ImageSet, count: int) -> np.ndarray:
    """The indices that the user names, else `count` fixed ones; ConfigError beyond the split."""
    wanted = material.runs.selection.images
    beyond = [index for index in wanted if index >= len(images)]
    if beyond:
        raise ConfigError(
            f"--image {beyond[0]}: the test split of {images.name} has images 0 … {len(images) - 1}"
        )
    return np.array(wanted) if wanted else _fixed(images, count)


def _models(material: Material) -> list[tuple[Chosen, Fitted, tuple[ImageSet, ImageSet]]]:
    """Every hierarchical VAE asked for, with the ID and OOD test images of the pair."""
    out = []
    for chosen in material.layered(material.pair):
        sides = material.stored.images(chosen.run)
        out.append((chosen, Fitted(material.stored.fits(chosen.run)[0], sides[0].shape), sides))
    return out


def _side_by_side(material: Material, picture: Callable[[Fitted, ImageSet], np.ndarray]) -> Figure:
    """Rows x, k = 0, 1, … of `picture`: ID beside OOD for one model, else ID above OOD."""
    models = _models(material)
    link = ": " if len(models) < 3 else "\n"
    grids = [
        [
            Grid(f"{chosen.label}{link}{images.name} ({role})",
                 ["x", *(f"k = {k}" for k in range(fitted.layers))], picture(fitted, images))
            for images, role in zip(sides, ("ID", "OOD"), strict=True)
        ]
        for chosen, fitted, sides in models
    ]  # fmt: skip
    return grid_figure(grids if len(grids) == 1 else list(zip(*grids, strict=True)))


def reconstructions(material: Material) -> Figure:
    """Some test images of either side and their means for every k."""

    def picture(fitted: Fitted, images: ImageSet) -> np.ndarray:
        return fitted.reconstructions(images.images, _shown(material, images, COLUMNS))

    return _side_by_side(material, picture)


def draws(material: Material) -> Figure:
    """One image of either side and its draws for every k; the first that the user names."""

    def picture(fitted: Fitted, images: ImageSet) -> np.ndarray:
        return fitted.draws(images.images[_shown(material, images, 1)[0]], DRAWS)

    return _side_by_side(material, picture)


def prior(material: Material) -> Figure:
    """A square of samples per model."""
    grids = []
    for chosen, fitted, _ in _models(material):
        samples = fitted.samples(PRIOR_SIDE**2)
        images = samples.reshape(PRIOR_SIDE, PRIOR_SIDE, *samples.shape[1:])
        grids.append(Grid(f"{chosen.label} on {chosen.run.record['in_dist']}", (), images))
    return grid_figure([grids])


def tsne(material: Material) -> Figure:
    """The layers of every model on one fixed subset of the ID test images."""
    models, title = [], ""
    for chosen, fitted, (images, _) in _models(material):
        indices = _fixed(images, TSNE_IMAGES)
        layers = [embed(means) for means in fitted.layer_means(images.images, indices)]
        labels = None if images.labels is None else images.labels[indices]
        models.append(Embedded(chosen.label, layers, labels))
        title = (
            f"t-SNE (perplexity {PERPLEXITY:.0f}) of posterior means\n{len(indices):,} of"
            f" {len(images):,} test images of {images.name}"
        )
    return tsne_figure(title, models)
