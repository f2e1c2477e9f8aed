"""Which figures there are: names, the papers' numbers, what is drawn when nothing is asked for.

This module imports no drawing library, so that the command line can list the figures quickly.
"""

from __future__ import annotations

from dataclasses import dataclass

from oodbench.errors import ConfigError, UnknownNameError

HVAES = ("vanilla-hvae", "informative-hvae")


@dataclass(frozen=True)
class Kind:
    """A figure; `numbers` are those of Li et al. 2022 (LLRada).

    `detectors` are drawn where none is named, all that ran where it is empty.  A figure of
    `several_pairs` has one panel or more per pair, any other takes one pair.  One of `every_seed`
    draws all seeds of a detector where none is named, any other the first.  `values`: whether what
    is drawn can be written as CSV, too.
    """

    name: str
    title: str
    numbers: tuple[int, ...] = ()
    detectors: tuple[str, ...] = HVAES
    several_pairs: bool = False
    every_seed: bool = False
    values: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind("reconstructions", "means of p(x|z>k) for every k, ID and OOD test images", (2,),
             HVAES[:1]),
        Kind("roc", "ROC curves, AUROC with its interval in the legend", (3,),
             ("vanilla-hvae:L", "informative-hvae:L", "vanilla-hvae:LLR_ada",
              "informative-hvae:LLR_ada"), several_pairs=True),
        Kind("densities", "histograms of scores, ID against OOD", (4,),
             ("informative-hvae:L", "informative-hvae:LLR_ada"), several_pairs=True),
        Kind("comparison", "reconstructions of several models side by side", (5, 6)),
        Kind("tsne", "t-SNE of every layer's posterior means, by class", (7,)),
        Kind("draws", "draws of p(x|z>k) given one image, for every k", (8,)),
        Kind("prior", "samples from the prior, as means of p(x|z1)", (9,)),
        Kind("auroc-by-k", "AUROC of LLR>k and L>k against k", several_pairs=True),
        Kind("kl", "KL per layer of ID and OOD images", several_pairs=True),
        Kind("complexity", "scores against PNG length",
             detectors=("vanilla-hvae:L", "informative-hvae:LLR_ada")),
        Kind("training", "training curves of the fits", every_seed=True),
        Kind("settling", "AUROC, bits/dim and KL against the images that training has seen",
             several_pairs=True, every_seed=True, values=True),
        Kind("forest", "AUROC intervals of all detectors on a pair", detectors=()),
    )
}  # fmt: skip


def find_kind(name: str) -> Kind:
    """By name, or by number in the LLRada paper (``3``, ``figure3``); UnknownNameError if none."""
    number = name.lower().removeprefix("figure").removeprefix("fig")
    for kind in KINDS.values():
        if name == kind.name or number in map(str, kind.numbers):
            return kind
    raise UnknownNameError("figure", name, KINDS, "or a number of the LLRada paper, 2 … 9")


def check_values(kind: Kind) -> None:
    """ConfigError where what a figure draws is not written as CSV."""
    if not kind.values:
        having = ", ".join(other.name for other in KINDS.values() if other.values)
        raise ConfigError(
            f"figure {kind.name} gives no values; {having} does (`oodbench leaderboard --format"
            " csv` has the numbers of tables)"
        )
