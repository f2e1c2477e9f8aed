"""The runs that a figure is drawn from; one that has not run is named with its command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oodbench.datasets.loading import find_places
from oodbench.datasets.pairs import get_pair, registered_pairs
from oodbench.declare.recipes import SCALES
from oodbench.declare.wildcards import expanded
from oodbench.errors import ConfigError, StoreError
from oodbench.flow.plan import DetectorRequest, merge_requests, split_detector
from oodbench.flow.stored.runs import stored_runs
from oodbench.leaderboards.board import shown_scores
from oodbench.leaderboards.named_runs import answering_any, says_scale, typed_name
from oodbench.leaderboards.paired_tests import seeds_of
from oodbench.leaderboards.rows import Group, group_runs, make_rows, overrides_of
from oodbench.leaderboards.stored_groups import recipe_label
from oodbench.store.storage import DEFAULT_STORE

if TYPE_CHECKING:
    from oodbench.store.store import Entry, Store


class MissingRunError(StoreError):
    """The store lacks what a figure shows; the message names the command that makes it."""


@dataclass(frozen=True)
class Chosen:
    """A run to draw: its group of seeds, the scores to show, and what a legend calls it."""

    group: Group
    run: Entry
    scores: tuple[str, ...]
    label: str

    @property
    def trained(self) -> bool:
        """Whether anything was trained, so that a seed says something."""
        return bool(self.run.record["recipe"])

    def named(self, score: str) -> str:
        """Label of one of the scores; that of a detector with one score is the detector's."""
        return self.label if score == "score" else f"{self.label} {score}"


@dataclass(frozen=True)
class Selection:
    """What the user asks for; None or empty where that is left to the figure.

    `detectors` as ``name[@recipe][:score]``; `images`: indices of test images, of either side.
    """

    pairs: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()
    scale: str = ""
    seed: int | None = None
    images: tuple[int, ...] = ()


class Runs:
    """The finished runs of a store that a selection names.

    `notes` collects what a reader of the figure must know about the choice made.
    """

    def __init__(self, store: Store, selection: Selection) -> None:
        self.store, self.selection = store, selection
        places = find_places((), store.storage.location)
        found = stored_runs(store, selection.pairs, places)
        self.groups = group_runs(found.runs)
        self.requests = self._requests(selection.detectors)
        if selection.scale and selection.scale not in SCALES:
            raise ConfigError(f"unknown scale {selection.scale!r}; one of {', '.join(SCALES)}")
        self.pairs = found.pairs or (self._default_pair(),)
        for name in self.pairs:
            if name not in {str(g.first["pair"]) for g in self.groups}:
                get_pair(name)
        self.scale = selection.scale or self._largest_scale()
        self.notes: dict[str, None] = {}

    # ------------------------------------------------------------------ choosing
    def _requests(self, names: Iterable[str]) -> list[DetectorRequest]:
        known = {str(g.first["detector"]) for g in self.groups}
        listed = expanded("detector that ran", names, sorted(known))
        requests = merge_requests([split_detector(text) for text in listed])
        for request in requests:
            if not answering_any(self.groups, [request]):
                _ = request.detector  # an unknown name is told from one that has not run
        return requests

    def _matching(self, request: DetectorRequest, pair: str, scale: str) -> list[Group]:
        return [
            group for group in answering_any(self.groups, [request])
            if group.first["pair"] == pair
            and (says_scale(group.first, request) or not scale
                 or group.first["scale"] in (scale, ""))
        ]  # fmt: skip

    def _default_pair(self) -> str:
        """The first registered pair on which most of the detectors ran; else the first other."""
        ran = {str(g.first["pair"]) for g in self.groups}
        names = [*registered_pairs(), *sorted(ran)]

        def count(pair: str) -> int:
            scale = self.selection.scale
            return sum(bool(self._matching(request, pair, scale)) for request in self.requests)

        candidates = [name for name in names if name in ran] or names
        return max(candidates, key=count)

    def _largest_scale(self) -> str:
        """The largest scale at which most of the detectors ran on the pairs; "" where none did."""

        def count(scale: str) -> int:
            asked = self.requests or [
                DetectorRequest(str(g.first["detector"])) for g in self.groups if g.first["scale"]
            ]
            return sum(
                any(g.first["scale"] == scale for g in self._matching(request, pair, scale))
                for request in asked
                for pair in self.pairs
            )

        best = max(SCALES, key=count)
        return best if count(best) else ""

    def choose(self, pair: str) -> list[Chosen]:
        """One run per detector asked for, in that order; MissingRunError where there is none."""
        picked = [(request, self._pick(request, pair)) for request in self.requests]
        titles = [title_of(group) for _, group in picked]
        out = []
        for (request, group), title in zip(picked, titles, strict=True):
            label = f"{title} {recipe_label(group)}" if titles.count(title) > 1 else title
            scores = tuple(shown_scores(group, request, False))
            out.append(Chosen(group, self._seed(group, request, pair), scores, label))
        return out

    def pick(self, request: DetectorRequest, pair: str) -> Entry:
        """The run of a detector that was not asked for but is needed beside the others."""
        return self._seed(self._pick(request, pair), request, pair)

    def configurations(self, request: DetectorRequest, pair: str) -> list[Group]:
        """Every configuration of a detector on a pair; MissingRunError where there is none.

        ConfigError where it ran with several recipes and none is named.
        """
        found = self._matching(request, pair, self.scale)
        if not found:
            raise MissingRunError(self._missing(request, pair, self.selection.seed))
        recipes = sorted({str(g.first["recipe"]) for g in found})
        if len(recipes) > 1:
            raise ConfigError(
                f"{request.name} ran with several recipes on {pair}; name one:"
                f" {', '.join(dict.fromkeys(typed_name(g.first) for g in found))}"
            )
        return found

    def of_seed(self, groups: Iterable[Group]) -> list[Group]:
        """The groups with the runs of the seed that is asked for alone, all where none is."""
        wanted = self.selection.seed
        if wanted is None:
            return list(groups)
        return [
            Group(g.first, [seeds_of(g)[wanted]], g.mark) if g.first["recipe"] else g
            for g in groups
            if not g.first["recipe"] or wanted in seeds_of(g)
        ]

    def _pick(self, request: DetectorRequest, pair: str) -> Group:
        found = self.configurations(request, pair)
        own = [g for g in found if not overrides_of(g.first)]
        found = own or found
        newest = max(found, key=lambda g: max(str(e.record["created"]) for e in g.entries))
        if len(found) > 1:
            self.notes[
                f"{len(found)} configurations of {request.name} ran on {pair}; the newest,"
                f" #{str(newest.first['configuration'])[:4]}, is drawn"
            ] = None
        return newest

    def _seed(self, group: Group, request: DetectorRequest, pair: str) -> Entry:
        runs = seeds_of(group)
        wanted = self.selection.seed
        if wanted is None or not group.first["recipe"]:
            return next(iter(runs.values()))
        if wanted not in runs:
            raise MissingRunError(self._missing(request, pair, wanted))
        return runs[wanted]

    def all_groups(self, pair: str) -> list[Group]:
        """The groups of the detectors asked for on a pair, or all that ran on it.

        Where a seed is asked for they hold the runs of that seed alone.
        """
        wanted = self.selection.seed
        if self.requests:
            found = [chosen.group for chosen in self.choose(pair)]
        else:
            found = [
                g for g in self.groups
                if g.first["pair"] == pair
                and (not self.scale or g.first["scale"] in (self.scale, ""))
                and (wanted is None or not g.first["recipe"] or wanted in seeds_of(g))
            ]  # fmt: skip
        if not found:
            raise MissingRunError(self._missing(None, pair, wanted))
        return self.of_seed(found)

    # ------------------------------------------------------------------ what is missing
    def one_budget(self, request: DetectorRequest, pair: str) -> MissingRunError:
        """What to say of a detector of which no training ran with several budgets."""
        words = ["oodbench", "run", "--pair", pair, "--detector", request.label]
        words += ["--scale", self.scale] if self.scale else []
        words += ["--set", "training.schedule=constant", "--set", "training.snapshots=[1, 2, 5]"]
        return MissingRunError(
            f"no training of {request.label} on {pair} is there at several budgets in"
            f" {self.store.storage.location}; `{self._command(words)}` makes some"
        )

    def _missing(self, request: DetectorRequest | None, pair: str, seed: int | None) -> str:
        named = ""
        words = ["oodbench", "run", "--pair", pair]
        if request is not None:
            named = f"{request.name}{request.recipe and '@' + request.recipe}"
            words += ["--detector", named]
        if self.scale:
            words += ["--scale", self.scale]
        if seed:
            words += ["--first-seed", str(seed)]
        at = [f"at scale {self.scale}"] if self.scale else []
        at += [f"with seed {seed}"] if seed is not None else []
        what = " ".join([f"no run {named and 'of ' + named + ' '}on {pair}", *at])
        return f"{what} in {self.store.storage.location}; `{self._command(words)}` makes it"

    def _command(self, words: Sequence[str]) -> str:
        location = self.store.storage.location
        usual = location == str(Path(DEFAULT_STORE).absolute())
        return shlex.join(words if usual else [*words, "--store", location])


def title_of(group: Group) -> str:
    """``Informative HVAE(3)``, as tables call it."""
    return make_rows(group, group.score_names[:1])[0].detector


def describe(chosen: Chosen, every_seed: bool = False) -> str:
    """``vanilla-hvae@F3-small, seed 0``: where a curve comes from; `every_seed`: all are drawn."""
    record, recipe = chosen.run.record, recipe_label(chosen.group)
    if not recipe:
        return str(record["detector"])
    seeds = sorted(seeds_of(chosen.group)) if every_seed else [int(str(record["seed"]))]
    several = "s" if len(seeds) > 1 else ""
    return f"{record['detector']}@{recipe}, seed{several} {', '.join(map(str, seeds))}"
