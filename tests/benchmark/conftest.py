"""A small store of made-up runs that answer part of what the published layouts ask for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from oodbench.canonical import JSON
from oodbench.pairs import Pair, get_pair
from oodbench.store import Key, Store
from oodbench.tables.layout_files import find_layout, layout_names

#: Detectors that nobody ran: their rows must stay empty.
ABSENT = ("odin", "oversmooth-hvae", "lr-bc", "idecode", "rst-prefit")
SINGLE = ("S",)
LAYERED = ("L", "L>1", "L>2", "L>3", "L>4", "LLR>1", "LLR>2", "LLR>3", "LLR>4", "LLR_ada",
           "LLR_optk")  # fmt: skip


def fraction(*parts: object) -> float:
    """A number in [0, 1) that follows from its arguments."""
    text = "/".join(map(str, parts))
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def made_up(detector: str, recipe: str, layers: int, pair: Pair, seed: int) -> dict[str, JSON]:
    """The record of a run whose numbers follow from its name."""
    name = (detector, recipe, pair.name)

    def metric(score: str, which: str) -> dict[str, JSON]:
        value = round(min(1.0, 0.3 + 0.7 * fraction(name, score, which) + 0.004 * seed), 4)
        if which.startswith("fpr"):
            value = round((1 - value) ** 2, 4)
        return {"value": value, "low": max(0.0, value - 0.011), "high": min(1.0, value + 0.01),
                "method": "DeLong" if which == "auroc" else "bootstrap"}  # fmt: skip

    scores: dict[str, JSON] = {}
    for score in _score_names(detector, layers):
        metrics = {which: metric(score, which) for which in ("auroc", "auprc", "fpr80", "fpr95")}
        scores[score] = {**metrics, "n_id": 1000, "n_ood": 1000, "distinct_id": 1000,
                         "distinct_ood": 1000}  # fmt: skip
    return {
        "pair": pair.name, "in_dist": pair.in_dist, "ood": pair.ood, "detector": detector,
        "title": detector.upper(), "category": "unsupervised", "cite": "", "seed": seed,
        "configuration": hashlib.sha256(repr(name).encode()).hexdigest(), "recipe": recipe,
        "scale": "small" if recipe else "", "variant": "", "layers": layers, "n": 1000,
        "notes": [], "scores": scores, "diagnostics": _diagnostics(detector, recipe, layers, seed),
        "cost": {"passes": "f", "ms_per_image": 1.25, "train_seconds": 12.5, "parameters": 1234},
    }  # fmt: skip


def _score_names(detector: str, layers: int) -> tuple[str, ...]:
    if layers:
        return tuple(s for s in LAYERED if ">" not in s or int(s[-1]) < layers)
    if detector.startswith("waic"):
        return ("-WAIC", "mean")
    return {"hvk": ("LLR>1", "LLR>2"), "glow": ("L",), "pixelcnn": ("L",)}.get(detector, SINGLE)


def _diagnostics(detector: str, recipe: str, layers: int, seed: int) -> dict[str, JSON]:
    if "vae" not in detector:
        return {}

    def side(name: str) -> dict[str, JSON]:
        def values(what: str, scale: float) -> list[JSON]:
            return [round(scale * (k + fraction(detector, recipe, name, what, k, seed)), 4)
                    for k in range(layers)]  # fmt: skip

        out: dict[str, JSON] = {
            "bits_per_dim": round(2 + fraction(detector, recipe, name, seed), 4),
            "bits_per_dim_k": values("bits", 2.0),
            "nll_bits_per_dim_k": values("nll", 2.5),
            "nll_nats_k": values("nll", 1400.0),
            "llr_nats_k": values("llr", 900.0),
            "kl_nats": values("kl", 0.05 if name == "ood_test" else 60.0),
            "active_units": [f"{k + 1}/8" for k in range(layers)],
            "images": 1000,
        }
        for index, what in enumerate(("I_T_nats", "L_TS_nats", "G_T_nats", "reconstruction",
                                      "KL_nats", "E_mu_sq")):  # fmt: skip
            out[what] = round((index + 1) * fraction(detector, what), 4)
        return out if layers else out | {"active_units": 12}

    return {name: side(name) for name in ("id_test", "id_train", "ood_test")}


def wanted() -> Iterator[tuple[str, str, int, Pair]]:
    """(detector, recipe, layers, pair) of everything the layouts ask for, once each."""
    seen = set()
    for name in layout_names():
        for query in find_layout(name).queries():
            pair = get_pair(str(query["pair"]))
            asked = str(query["detector"]), str(query.get("recipe", "")), query.get("layers", 0)
            if asked[0] not in ABSENT and (*asked, pair.name) not in seen:
                seen.add((*asked, pair.name))
                yield asked[0], asked[1], int(asked[2]), pair


@pytest.fixture(scope="session")
def made_up_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Runs of everything the layouts name but `ABSENT`; the informative HVAE has three seeds."""
    store = Store(tmp_path_factory.mktemp("made-up"))
    for detector, recipe, layers, pair in wanted():
        for seed in range(3 if detector == "informative-hvae" else 1):
            record = made_up(detector, recipe, layers, pair, seed)
            parts: dict[str, JSON] = {"detector": detector, "recipe": recipe, "layers": layers,
                                      "pair": pair.name, "seed": seed, "id_scores": "a" * 64,
                                      "ood_scores": "b" * 64}  # fmt: skip
            store.write(Key("run", parts), {}, record)
    return store
