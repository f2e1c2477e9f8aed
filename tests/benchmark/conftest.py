"""Small stores: made-up runs for the published layouts, real scores of images for the report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest

from oodbench.canonical_json import JSON
from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.loading import find_places, load
from oodbench.datasets.pairs import Pair, get_pair, make_pair
from oodbench.declare.layout_files import find_layout, layout_names
from oodbench.leaderboards.set_means import OPENOOD
from oodbench.rank.metrics import equal_size, evaluate, group_members
from oodbench.store.payload import pack_table
from oodbench.store.store import Key, Store

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
    several = {"hvk": ("LLR>1", "LLR>2"), "glow": ("L",), "pixelcnn": ("L",),
               "likelihood-regret": ("LRe", "L"), "flow-group": ("GOD1KS", "GOD2KS"),
               "diffusion": ("L",), "diffpath": ("6D", "1D"), "lid-diffusion": ("pair", "LID"),
               "ddpm-ood": ("MSE+SSIM", "MSE", "SSIM"), "lmd": ("MSE", "SSIM")}  # fmt: skip
    return several.get(detector, SINGLE)


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
            pairs = [get_pair(str(query["pair"]))]
            if "mean" in query:
                own = pairs[0].in_dist
                pairs = [make_pair(own, ood) for ood in OPENOOD[own][str(query["mean"])]]
            asked = str(query["detector"]), str(query.get("recipe", "")), query.get("layers", 0)
            for pair in pairs:
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
                                      "ood_scores": "b" * 64,
                                      "metrics": {"revision": 1}}  # fmt: skip
            store.write(Key("run", parts), {}, record)
    return store


# ---------------------------------------------------------------------- reports
ID_IMAGES, OOD_IMAGES = 90, 60
#: Every one is shown by the report somewhere.
HOSTILE = (
    "</script><script>window.harm=1</script>",
    '<img src=x onerror="window.harm=2">',
    "\"><svg onload='window.harm=3'>&amp;",
    "<!--<script>window.harm=4",
    "{{ 7 * 7 }}{% raw %}",
    "__proto__",
    "constructor",
    "javascript:window.harm=5//\u2028\u202e",
    "n" * 400,
)
MANY = tuple(f"s{number:03}" for number in range(1, 131))


def write_run(
    store: Store, sets: tuple[ImageSet, ImageSet], detector: str, shifts: Mapping[str, float], *,
    seed: int = 0, oracle: str = "", groups: Mapping[str, int] | None = None, pair: str = "",
    counts: tuple[int, int] = (ID_IMAGES, OOD_IMAGES), **changes: JSON,
) -> str:  # fmt: skip
    """A run on the first images of two sets; a score's OOD side lies `shifts` above the ID side.

    `counts` of seeded subsets are measured, as with a recipe's `max_images`.  Returns its key.
    """
    sides: list[dict[str, np.ndarray]] = []
    digests: dict[str, JSON] = {}
    fit = store.write(Key("fit", {"d": detector, "seed": seed}), {}, {
        "machine": {"device": "cpu", "device_name": HOSTILE[1], "commit": "c" * 40},
        "seconds": 1.5, "parameters": 10,
    })  # fmt: skip
    for name, images, count, shifted in (
        ("id", sets[0], counts[0], 0),
        ("ood", sets[1], counts[1], 1),
    ):
        values = {}
        for column, shift in shifts.items():
            draw = np.random.default_rng([seed, len(detector), len(column), shifted])
            values[column] = draw.normal(shifted * shift, 1.0, count)
            if groups and column in groups:
                for members in group_members(count, groups[column]):
                    values[column][members] = values[column][members[0]]
        measure = store.write(Key("measure", {
            "d": detector, "images": images.fingerprint, "subset": count, "seed": seed,
            "fits": [fit.digest],
        }), {}, {"machine": {"device": "cpu"}, "seconds": 0.5, "images": count})  # fmt: skip
        entry = store.write(Key("score", {"measure": measure.digest, "detector": detector}),
                            {"scores.parquet": pack_table(values)})  # fmt: skip
        sides.append(values)
        digests[f"{name}_scores"] = entry.digest
    results = _results(sides, counts, groups or {})
    if oracle:
        best = max(results, key=lambda name: results[name]["auroc"]["value"])  # type: ignore[index, call-overload, arg-type, return-value]
        results[oracle] = {**results[best], "oracle": best}  # type: ignore[dict-item]
    record: dict[str, JSON] = {
        "pair": pair or f"{sets[0].name}-{sets[1].name}", "in_dist": sets[0].name,
        "ood": sets[1].name, "detector": detector, "title": detector.upper(),
        "category": "unsupervised", "cite": "", "seed": seed, "recipe": "F3", "scale": "small",
        "configuration": f"{detector}{pair}".encode().hex()[:64].ljust(64, "0"), "variant": "",
        "layers": 0, "n": min(counts), "available": {"id": counts[0], "ood": counts[1]},
        "notes": [], "scores": results, "score_order": list(results), "diagnostics": {},
        "cost": {"train_seconds": 1.5, "passes": "f"}, **changes,
    }  # fmt: skip
    key = Key("run", {**digests, "metrics": {"revision": 1, "equal_size_seed": 0},
                      "who": detector, "pair": pair})  # fmt: skip
    return store.write(key, {}, record).digest


def _results(
    sides: Sequence[Mapping[str, np.ndarray]], counts: tuple[int, int], groups: Mapping[str, int]
) -> dict[str, JSON]:
    out: dict[str, JSON] = {}
    for name in sides[0]:
        rows = list(equal_size(*counts))
        if name in groups:
            firsts = [group_members(count, groups[name])[:, 0] for count in counts]
            rows = [first[: min(map(len, firsts))] for first in firsts]
        values = [side[name][row] for side, row in zip(sides, rows, strict=True)]
        out[name] = evaluate(values[0], values[1], resamples=20).to_json()
    return out


@pytest.fixture(scope="session")
def embedded_sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSet, ImageSet]:
    """The embedded digits and patches of photographs, both 8×8."""
    places = find_places((), str(tmp_path_factory.mktemp("embedded") / "store"))
    return load("digits", "test", places), load("photos", "test", places)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., str]:
    """`write_run`."""
    return write_run


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    """`HOSTILE`."""
    return HOSTILE


@pytest.fixture(scope="session")
def report_store(
    tmp_path_factory: pytest.TempPathFactory, embedded_sets: tuple[ImageSet, ImageSet]
) -> Store:
    """Detectors with three seeds, with one, of groups with an oracle choice, of 130 scores, and one
    whose every name is hostile."""
    store, sets = Store(tmp_path_factory.mktemp("report") / "store"), embedded_sets
    side: JSON = {"bits_per_dim": 3.21, "kl_nats": [12.5, 0.001], "active_units": ["4/8", "0/8"],
                  "constructor": 1.0}  # fmt: skip
    for seed in range(3):
        write_run(store, sets, "strong", {"L": -0.7, "LLR>1": 1.5, "L>1": 0.2}, seed=seed,
                  layers=2, diagnostics={"id_test": side, "toString": side})  # fmt: skip
    write_run(store, sets, "mean-intensity", {"score": 0.3}, recipe="", scale="")
    write_run(store, sets, "grouped", {"b=1": 0.8, "b=5": 1.6}, oracle="best b",
              groups={"b=5": 5}, category="prior")  # fmt: skip
    write_run(store, sets, "many", dict.fromkeys(MANY, 0.5), scale="smoke")
    write_run(
        store, sets, HOSTILE[0], {HOSTILE[1]: 0.9, HOSTILE[5]: 0.4}, pair=HOSTILE[2],
        title=HOSTILE[3], cite=HOSTILE[4], category=HOSTILE[6], recipe=HOSTILE[7],
        scale=HOSTILE[0], variant=HOSTILE[1], notes=[HOSTILE[8], HOSTILE[3]],
        in_dist=f"/no/such/{HOSTILE[1]}", ood=HOSTILE[2],
        cost={"passes": HOSTILE[0], "device": HOSTILE[3]},
        diagnostics={HOSTILE[2]: {HOSTILE[1]: [HOSTILE[0]], HOSTILE[5]: 1.0}},
    )  # fmt: skip
    return store
