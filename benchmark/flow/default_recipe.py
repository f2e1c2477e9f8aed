"""Which recipe a detector takes on an ID set where none is named."""

from __future__ import annotations

from pathlib import Path

from oodbench.datasets.spec import parse_name
from oodbench.declare.declarations import built_in
from oodbench.declare.derived_recipes import nearest
from oodbench.declare.recipes import RecipeFile, derive, recipe_files
from oodbench.errors import ConfigError


def default_recipe(
    in_dist: str, shape: tuple[int, int, int], variant: str, scale: str, detector: str = ""
) -> RecipeFile:
    """The recipe made for this ID set, else the first by name that is made for its image shape.

    Of those, one of oodbench goes before one of a plug-in, so that a plug-in moves no result of
    another's detector.  Where none at this scale is made for the shape, one is derived
    (`oodbench.declare.derived_recipes`).  ConfigError, which names the
    `detector`, where no recipe has the variant and scale.
    """
    own = built_in().path / "recipes"
    base = parse_name(in_dist).base
    offering = sorted(
        (r for r in recipe_files().values() if variant in r.variants),
        key=lambda r: (scale not in r.scales, Path(r.origin).parent != own, r.name),
    )
    named = [r for r in offering if base in r.in_dist]
    if named:
        return named[0]
    fitting = [r for r in offering if r.shape == shape and scale in r.scales]
    free = [r for r in fitting if not r.in_dist]
    if fitting:
        return (free or fitting)[0]
    bases = [r for r in offering if scale in r.scales]
    if not offering:
        raise ConfigError(
            f"{detector or variant}: no recipe has the variant {variant!r}; give --recipe with a"
            " YAML file, or put one into the folder recipes/ of the plug-in (of a package: named in"
            " its package-data, and its module by the entry-point group oodbench.resources)"
        )
    if not bases:
        size = "×".join(map(str, shape))
        made = ", ".join(f"{r.name} ({'×'.join(map(str, r.shape))})" for r in offering)
        raise ConfigError(
            f"{f'{detector}: ' if detector else ''}no recipe is made for {in_dist} with images of"
            f" {size} at scale {scale}; give --recipe NAME or a YAML file (recipes: {made})"
        )
    bases.sort(key=lambda r: bool(r.in_dist))
    chosen = nearest([(r.name, r.shape) for r in bases], shape)
    return derive(next(r for r in bases if r.name == chosen), shape)
