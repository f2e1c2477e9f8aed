"""Time and memory of the leaderboard over 10,000 made-up run records.

    python tests/throughput/leaderboard_of_10000_runs.py FOLDER

25 pairs × 40 detectors × 10 seeds; 15 of the detectors have eleven scores.  Every format runs in a
process of its own; wall time and peak memory are printed.  The aim: 3 seconds and 500 MB.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from oodbench.canonical_json import JSON, canonical_json, digest
from oodbench.store.store import SCHEMA, Key

SCORES = ("L", "L>1", "L>2", "LLR>1", "LLR>2", "LLR_ada", "LLR_ada_eq11", "LLR_optk", "KL<=1",
          "KL<=2", "KL<=3")  # fmt: skip
WAYS = (("--format", "table"), ("--format", "csv"), ("--format", "json"), ("--layout", "general"),
        ("--layout", "general", "--format", "html"), ("--layout", "table1"))  # fmt: skip
MEASURED = """
import resource, sys, time
started = time.monotonic()
from oodbench.cli import oodbench
oodbench.main(sys.argv[1:], standalone_mode=False)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{time.monotonic() - started:.2f} s, {peak:.0f} MB", file=sys.stderr)
"""


def made_up(pair: int, detector: int, seed: int) -> dict[str, JSON]:
    """One record, the shape and size of a real one."""

    def metric() -> dict[str, JSON]:
        value = random.random()
        return {"value": value, "low": 0.95 * value, "high": value + 0.05 * (1 - value),
                "method": "bootstrap"}  # fmt: skip

    layered = detector < 15
    side: dict[str, JSON] = {
        "bits_per_dim": random.random(), "bits_per_dim_k": [3.1, 3.2, 3.3], "images": 10_000,
        "kl_nats": [random.random() for _ in range(3)], "active_units": ["1/4", "2/4", "3/4"],
    }  # fmt: skip
    scores: dict[str, JSON] = {
        name: {**{m: metric() for m in ("auroc", "auprc", "fpr80", "fpr95")}, "level": 0.95,
               "n_id": 10_000, "n_ood": 10_000, "prevalence": 0.5, "distinct_id": 9_900,
               "distinct_ood": 9_950}
        for name in (SCORES if layered else ("score",))
    }  # fmt: skip
    return {
        "pair": f"id{pair // 5}-ood{pair}", "in_dist": f"id{pair // 5}", "ood": f"ood{pair}",
        "detector": f"detector-{detector:02}", "title": f"Detector {detector}", "cite": "",
        "category": "unsupervised", "seed": seed, "recipe": "F3", "scale": "small",
        "configuration": hashlib.sha256(f"{pair}/{detector}".encode()).hexdigest(), "variant": "",
        "layers": 3 if layered else 0, "n": 10_000, "notes": [], "scores": scores,
        "diagnostics": {"id_test": side, "id_train": side} if layered else {},
        "cost": {"passes": "f", "ms_per_image": 1.2, "train_seconds": 100.5, "parameters": 12_345},
    }  # fmt: skip


def write_store(root: Path) -> None:
    """The records as the store lays them out, without a flush for each."""
    random.seed(0)
    for number in range(10_000):
        pair, detector, seed = number // 400, number // 10 % 40, number % 10
        key = Key("run", {"number": number, "id_scores": "a" * 64, "ood_scores": "b" * 64,
                          "metrics": {"revision": 1}})  # fmt: skip
        body = made_up(pair, detector, seed) | {
            "schema": SCHEMA, "stage": "run", "key": key.digest, "parts": dict(key.parts),
            "files": {}, "created": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        path = root / key.path / "record.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(canonical_json({"record": body, "sha256": digest(body)}))


def main() -> None:
    root = Path(sys.argv[1])
    if not (root / "run").exists():
        started = time.monotonic()
        write_store(root)
        print(f"10,000 records written in {time.monotonic() - started:.0f} s")
    for way in WAYS:
        arguments = ["leaderboard", "--store", str(root), *way]
        done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True,
                              text=True, check=True)  # fmt: skip
        print(json.dumps(" ".join(way)), done.stderr.strip(), f"{len(done.stdout):,} characters")


if __name__ == "__main__":
    main()
