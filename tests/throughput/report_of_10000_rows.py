"""How long the report takes to make and to open with 10,000 rows.

    python tests/throughput/report_of_10000_rows.py FOLDER

25 pairs × 40 detectors × 10 scores on 1,000 made-up images of each side.  Prints the time and peak
memory of `oodbench report`, the size of the page, and, where Playwright finds a Chromium, the
median over five openings of first paint, table drawn and document read, and the time of a sort, a
text filter and of opening a detail.  The aim: first paint within 2 seconds.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from oodbench.canonical_json import JSON, canonical_json, digest
from oodbench.rank.metrics import auroc
from oodbench.store.payload import pack_table
from oodbench.store.store import SCHEMA, Key

PAIRS, DETECTORS, SCORES, IMAGES = 25, 40, 10, 1000
MEASURED = """
import resource, sys, time
started = time.monotonic()
from oodbench.cli import oodbench
oodbench.main(sys.argv[1:], standalone_mode=False)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{time.monotonic() - started:.1f} s, {peak:.0f} MB")
"""
WATCH = """new MutationObserver((_, watch) => {
  if (!document.querySelector("#board tbody tr")) return;
  watch.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.drawn = performance.now(); }));
}).observe(document, { childList: true, subtree: true });"""
OPENED = """() => {
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  const [page] = performance.getEntriesByType("navigation");
  return [paint.startTime, window.drawn, page.domContentLoadedEventEnd];
}"""
TIMED = """async (act) => {
  const started = performance.now();
  eval(act);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - started;
}"""
ACTS = {
    "sort": "document.querySelector('[data-field=auroc]').click()",
    "filter": "document.forms[0].elements.text.value = 'detector 7 llr';"
    "document.forms[0].dispatchEvent(new Event('input'))",
    "detail": "document.querySelector('button.open').click()",
}


def put(root: Path, key: Key, files: dict[str, bytes], record: dict[str, JSON]) -> str:
    """An entry as the store lays it out, without a flush."""
    folder = root / key.path
    folder.mkdir(parents=True, exist_ok=True)
    sums: dict[str, JSON] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    body: dict[str, JSON] = {
        **record, "schema": SCHEMA, "stage": key.stage, "key": key.digest,
        "parts": dict(key.parts), "files": sums, "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    text = canonical_json({"record": body, "sha256": digest(body)})
    (folder / "record.json").write_text(text)
    return key.digest


def write_store(root: Path) -> None:
    """Runs with the scores, measurements and fits behind them."""
    rng = np.random.default_rng(0)
    names = [f"LLR>{k}" for k in range(SCORES)]
    machine: JSON = {"device": "cpu", "torch": "2.6", "commit": "c" * 40}
    for number in range(PAIRS * DETECTORS):
        pair, detector = divmod(number, DETECTORS)
        fit = put(root, Key("fit", {"n": number}), {}, {"machine": machine, "seconds": 9.5})
        sides, digests = [], dict[str, JSON]()
        for side in ("id_scores", "ood_scores"):
            shift = rng.normal(0.5, 1) if side == "ood_scores" else 0.0
            values = {name: rng.normal(shift, 1, IMAGES) for name in names}
            measure = put(root, Key("measure", {
                "n": number, "side": side, "images": f"{side}{pair}", "subset": 0, "fits": [fit],
            }), {}, {"machine": machine, "seconds": 1.5})  # fmt: skip
            digests[side] = put(root, Key("score", {"measure": measure}),
                                {"scores.parquet": pack_table(values)}, {})  # fmt: skip
            sides.append(values)
        scores: dict[str, JSON] = {}
        for name in names:
            value = auroc(sides[0][name], sides[1][name])
            metric: JSON = {"value": value, "low": 0.98 * value, "high": value, "method": "DeLong"}
            scores[name] = dict.fromkeys(("auroc", "auprc", "fpr80", "fpr95"), metric) | {
                "n_id": IMAGES, "n_ood": IMAGES, "distinct_id": IMAGES, "distinct_ood": IMAGES,
            }  # fmt: skip
        inner: JSON = {"bits_per_dim": 3.2, "kl_nats": [9.5, 3.1, 0.5], "images": IMAGES}
        put(root, Key("run", {**digests, "metrics": {"revision": 1, "equal_size_seed": 0}}), {}, {
            "pair": f"id{pair // 5}-ood{pair}", "in_dist": f"id{pair // 5}", "ood": f"ood{pair}",
            "detector": f"detector-{detector}", "title": f"Detector {detector}", "cite": "",
            "category": "unsupervised", "seed": 0, "recipe": "F3", "scale": "small",
            "configuration": digest(number), "variant": "", "layers": 3, "n": IMAGES, "notes": [],
            "available": {"id": IMAGES, "ood": IMAGES}, "scores": scores, "score_order": names,
            "diagnostics": {"id_test": inner, "id_train": inner},
            "cost": {"passes": "f", "ms_per_image": 1.2, "train_seconds": 9.5},
        })  # fmt: skip


def open_page(address: str) -> None:
    """Median times of opening and using the page in Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path)
        times: dict[str, list[float]] = {}
        for _ in range(5):
            page = browser.new_context(bypass_csp=True).new_page()
            page.add_init_script(WATCH)
            page.goto(address)
            assert page.locator("#board tbody tr").count() == 100
            names = ("first paint", "100 rows painted", "document read")
            found = dict(zip(names, page.evaluate(OPENED), strict=True))
            found |= {name: page.evaluate(TIMED, act) for name, act in ACTS.items()}
            for name, value in found.items():
                times.setdefault(name, []).append(value)
            page.context.close()
        for name, values in times.items():
            print(f"{name}: {statistics.median(values):.0f} ms")
        browser.close()


def main() -> None:
    root = Path(sys.argv[1]).absolute()
    if not (root / "store").exists():
        started = time.monotonic()
        write_store(root / "store")
        print(f"{PAIRS * DETECTORS:,} runs written in {time.monotonic() - started:.0f} s")
    out = root / "index.html"
    arguments = ["report", "--store", str(root / "store"), "--out", str(out), "--all-scores"]
    for more in ([], ["--no-significance"]):
        done = subprocess.run([sys.executable, "-c", MEASURED, *arguments, *more], text=True,
                              capture_output=True, check=True)  # fmt: skip
        print(" ".join(["oodbench report", *more]), done.stdout.splitlines()[-1])
    print(f"page: {out.stat().st_size / 1e6:.1f} MB")
    open_page(out.as_uri())


if __name__ == "__main__":
    main()
