"""Which recipe a detector takes on an ID set where none is named."""

from __future__ import annotations

from pathlib import Path

from oodbench.datasets.spec import parse_name
from oodbench.declare.declarations import built_in
from oodbench.declare.recipes import RecipeFile, recipe_files
from oodbench.errors import ConfigError


def default_recipe(
    in_dist: str, shape: tuple[int, int, int], variant: str, scale: str
) -> RecipeFile:
    """The recipe made for this ID set, else the first by name that is made for its image shape.

    Of those, one that offers `scale` goes first, and one of oodbench before one of a plug-in, so
    that a plug-in moves no result of another's detector.
    """
    own = built_in().path / "recipes"
    base = parse_name(in_dist).base
    offering = sorted(
        (r for r in recipe_files().values() if variant in r.variants),
        key=lambda r: (scale not in r.scales, Path(r.origin).parent != own, r.name),
    )
    named = [r for r in offering if base in r.in_dist]
    fitting = named or [r for r in offering if r.shape == shape and not r.in_dist]
    fitting = fitting or [r for r in offering if r.shape == shape]
    if not fitting:
        size = "×".join(map(str, shape))
        made = ", ".join(f"{r.name} ({'×'.join(map(str, r.shape))})" for r in offering)
        raise ConfigError(
            f"no recipe is made for {in_dist} with images of {size}; give --recipe NAME or a YAML"
            f" file (recipes: {made})"
        )
    return fitting[0]
