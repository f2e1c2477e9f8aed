"""Metrics with ID as the positive class, as much of the literature prints them.

ODIN, the energy score, ViM and OpenOOD before its version 1.5 take ID as positive: their FPR95 is
the share of OOD images that is called ID where 95 % of the ID images are, their AUPR that of
finding ID images.  The tables here count OOD as positive.  AUROC is the same either way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from oodbench.leaderboards.paired_tests import PairedScores
from oodbench.leaderboards.rows import Group

#: The share of ID images that is accepted.
ACCEPTED = 0.95


def id_positive(scores: PairedScores, group: Group, score: str) -> Mapping[str, float]:
    """``fpr`` and ``auprc`` in percent, means over the seeds of a group; StoreError as `sides`."""
    from oodbench.rank.metrics import average_precision, fpr_at_tpr

    found: dict[str, list[float]] = {"fpr": [], "auprc": []}
    for entry in group.entries:
        id_scores, ood_scores = scores.sides(entry, score)
        # Low scores speak for ID: with the sign turned, ID is what is looked for.
        found["fpr"].append(fpr_at_tpr(-ood_scores, -id_scores, ACCEPTED))
        found["auprc"].append(average_precision(-ood_scores, -id_scores))
    return {name: 100 * math.fsum(values) / len(values) for name, values in found.items()}
