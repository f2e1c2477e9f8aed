"""Two detectors on one pair: the difference of their AUROCs, seed by seed and over seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

from oodbench.datasets.loading import find_places
from oodbench.errors import ConfigError, OodbenchError, listed, nearest
from oodbench.flow.plan import split_detector
from oodbench.flow.run_records import members_of
from oodbench.flow.stored.runs import stored_runs
from oodbench.leaderboards.named_runs import answering_any, typed_name
from oodbench.leaderboards.paired_tests import (
    PairedScores,
    SeedDifference,
    seed_difference,
)
from oodbench.leaderboards.rounding import cleaned, shown
from oodbench.leaderboards.rows import Group, group_runs, overrides_of
from oodbench.leaderboards.stored_groups import required_score
from oodbench.store.store import Store

if TYPE_CHECKING:
    from oodbench.rank.significance import PairedComparison


@dataclass(frozen=True)
class Contender:
    """The runs of one side and the score that is compared."""

    group: Group
    score: str

    @property
    def name(self) -> str:
        """``informative-hvae@F5-small:LLR_ada``."""
        score = "" if self.score == "score" else f":{self.score}"
        return f"{typed_name(self.group.first, self.group.mark)}{score}"


@dataclass(frozen=True)
class HeadToHead:
    """A against B; fractions of AUROC.  `p_adjusted` holds the p-values after Holm over seeds."""

    a: Contender
    b: Contender
    pair: str
    by_seed: dict[int, PairedComparison]
    p_adjusted: list[float]
    over_seeds: SeedDifference | None


def compare_runs(store: Store, a: str, b: str, pair: str, scale: str = "") -> HeadToHead:
    """The comparison of ``detector[@recipe][:score]`` a and b on a pair.

    Raises OodbenchError where a run is missing or the name fits several, UnknownNameError on a
    score that does not exist, StoreError where the scores are gone or images differ.
    """
    from oodbench.rank.significance import holm

    location = store.storage.location
    found = stored_runs(store, [pair], find_places((), location))
    groups = group_runs(found.runs)
    on_pair = [g for g in groups if g.first["pair"] in found.pairs]
    if not on_pair:
        known = sorted({str(g.first["pair"]) for g in groups})
        close = listed(nearest(pair, known)) or "nothing is stored yet; `oodbench run`"
        raise OodbenchError(f"no run of pair {pair!r} in {location}; stored: {close}")
    left, right = (_contender(on_pair, text, scale) for text in (a, b))
    scores = PairedScores(store)
    shared = scores.paired_seeds(left.group, right.group)
    if not shared:
        raise OodbenchError(f"{left.name} and {right.name} have no seed in common on {pair}")
    by_seed = {
        seed: scores.compare(run_a, left.score, run_b, right.score) for seed, run_a, run_b in shared
    }
    differences = [result.difference for result in by_seed.values()]
    return HeadToHead(
        left,
        right,
        pair,
        by_seed,
        holm([result.p_value for result in by_seed.values()]),
        seed_difference(differences) if len(differences) > 1 else None,
    )


def _contender(groups: Iterable[Group], text: str, scale: str) -> Contender:
    request = split_detector(text)
    name, score = request.name, "".join(request.scores)
    known = list(groups)
    found = [
        group for group in answering_any(known, [request])
        if not scale or group.first["scale"] in (scale, "")
    ]  # fmt: skip
    own = [g for g in found if not overrides_of(g.first)]
    found = own or found
    pair = known[0].first["pair"]
    if not found:
        ran = sorted({f"{g.first['detector']}" for g in known})
        close = listed(nearest(name, ran))
        raise OodbenchError(f"no run of {text.partition(':')[0]!r} on {pair}; ran there: {close}")
    if len(found) > 1:
        several = ", ".join(typed_name(g.first, g.mark) for g in found)
        raise ConfigError(
            f"{text.partition(':')[0]!r} fits several runs on {pair}; name one of {several}, or the"
            " key of a run (`oodbench store list`)"
        )
    return Contender(found[0], required_score(found[0], score))


def comparison_json(found: HeadToHead) -> dict[str, object]:
    """Fractions of AUROC on the images that both measured; an object per seed, then all seeds."""
    return {
        "pair": found.pair,
        "a": found.a.name,
        "b": found.b.name,
        "test_images": [
            {"seed": seed, **asdict(result), "p_holm": p}
            for (seed, result), p in zip(found.by_seed.items(), found.p_adjusted, strict=True)
        ],
        "training_seeds": asdict(found.over_seeds) if found.over_seeds else None,
    }


def _images(found: HeadToHead) -> str:
    """How many images, or groups, were compared, and of how many where a side measured more."""
    first = next(iter(found.by_seed.values()))
    members = members_of(found.a.group.first, found.a.score)
    what = "images" if members == 1 else f"groups of {members or 'several'} images"
    judged = f"{first.n_id:,} ID + {first.n_ood:,} OOD {what}"
    whole = [_compared(side) for side in (found.a, found.b)]
    if {*whole} == {(first.n_id, first.n_ood)}:
        return judged
    a, b = (f"{n_id:,} + {n_ood:,}" for n_id, n_ood in whole)
    return f"{judged} that both measured (of A's {a} and B's {b})"


def _compared(side: Contender) -> tuple[int, int]:
    score = cast("dict[str, dict[str, int]]", side.group.first["scores"])[side.score]
    return score["n_id"], score["n_ood"]


def comparison_text(found: HeadToHead) -> str:
    """A few lines for a terminal, AUROC in percent."""
    lines = [
        f"{found.pair}: {_images(found)}, AUROC in percent",
        f"A = {found.a.name}",
        f"B = {found.b.name}",
        "",
        "Variance of test images (paired DeLong, 95 % interval), one trained model per seed:",
    ]
    several = len(found.by_seed) > 1
    for (seed, result), adjusted in zip(found.by_seed.items(), found.p_adjusted, strict=True):
        line = (
            f"  seed {seed}: A {_two(result.auc_a)}, B {_two(result.auc_b)}, A − B"
            f" {_two(result.difference, '+')} [{_two(result.low, '+')}, {_two(result.high, '+')}],"
            f" {p_text(result.p_value)}"
        )
        lines.append(line + (f", after Holm {p_text(adjusted)}" if several else ""))
    over = found.over_seeds
    if over is not None:
        lines += [
            "Variance of training seeds (paired t, 95 % interval):",
            f"  {over.seeds} seeds: A − B {_two(over.mean, '+')} ± {_two(over.sd)}"
            f" [{_two(over.low, '+')}, {_two(over.high, '+')}], {p_text(over.p_value)}",
        ]
    return "\n".join(lines) + "\n"


def _two(fraction: float, flags: str = "") -> str:
    """Percent with two decimals."""
    return shown(cleaned(100 * fraction), 2, flags)


def p_text(value: float) -> str:
    """``p = 0.0012``; a value too small for a float is said to be small."""
    return f"p = {value:.2g}" if value > 0 else "p < 1e-300"
