"""Two ways of somebody who knows the documentation alone, from end to end, with what is said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke
from PIL import Image

import oodbench
from oodbench.deploy.scoring import TrainedDetector

BUILD = "import setuptools.build_meta as b; b.build_wheel({!r})"


@pytest.mark.slow
def test_an_author_of_a_detector(tmp_path: Path) -> None:
    """New package → installed → check → two pairs, three seeds → LaTeX."""
    status, out, _ = invoke(tmp_path, "new", "package", "strangers")
    assert (status, out.splitlines()[-1]) == (
        0, "pip install -e strangers && oodbench check strangers"
    )  # fmt: skip
    built = subprocess.run([sys.executable, "-c", BUILD.format(str(tmp_path))],
                           cwd=tmp_path / "strangers", capture_output=True)  # fmt: skip
    assert built.returncode == 0, built.stderr.decode()[-2000:]
    (wheel,) = tmp_path.glob("strangers-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "oodbench", *arguments], cwd=tmp_path, text=True, timeout=300,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "160"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
        assert "Traceback" not in done.stderr
        return done.stdout

    checked = run("check", "strangers")
    assert "FAILED" not in checked
    assert re.search(r"orientation[^\n]* passed", checked)
    asked = ("--pair", "digits-photos", "--pair", "china-flower")
    detectors = ("--detector", "strangers", "--detector", "pixel-variance")
    tables = run("run", *asked, *detectors, "--seeds", "3", "--quiet")
    for pair in (
        "digits-photos (ID: digits, OOD: photos)",
        "china-flower (ID: china, OOD: flower)",
    ):
        assert pair in tables
    assert len(re.findall(r"Strangers\s*│[^│]*│\s*[0-9.]+ ± [0-9.]+", tables)) == 2
    assert "±: sample standard deviation over 3 training seeds" in " ".join(tables.split())
    latex = run("leaderboard", "--layout", "general", *asked, "--format", "latex")
    assert latex.startswith("% needs \\usepackage{booktabs}")
    assert "\\label{tab:leaderboard}" in latex
    assert len(re.findall(r"[0-9.]+\$\\pm\$[0-9.]+", latex)) >= 8  # four metrics, two pairs


def photographs(folder: Path, first: int, last: int) -> None:
    """Smooth pictures in colour, as a camera would name them."""
    folder.mkdir(exist_ok=True)
    y, x = np.mgrid[0:24, 0:32]
    for number in range(first, last):
        generator = np.random.default_rng(number)
        phase = generator.uniform(0, 6, 3)
        wave = np.stack([np.sin(x / 9 + p) + np.cos(y / 7 + p) for p in phase], axis=-1)
        picture = 120 + 25 * wave + generator.normal(0, 4, wave.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"IMG_{number:04}.png")


def serving(
    detector: TrainedDetector,
) -> tuple[ThreadingHTTPServer, Callable[[bytes], list[float]]]:
    """A service of one detector, and how it is asked."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            row = detector.score([self.rfile.read(int(self.headers["Content-Length"]))])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(row[["score", "p_value"]].iloc[0].tolist()).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask(data: bytes) -> list[float]:
        address = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(address, data, timeout=60) as answered:
            found: list[float] = json.load(answered)
        return found

    return server, ask


@pytest.mark.slow
def test_an_engineer_with_photographs(tmp_path: Path) -> None:
    """Photographs → run → export → service → threshold → more photographs → all of it again."""
    photographs(tmp_path / "line", 0, 200)
    ours = ("--in-dist", "line@grey@resize(16)")
    noise = ("--ood", "uniform(100)", "--detector", "pixel-variance", "--detector", "png-length")
    status, out, err = invoke(tmp_path, "run", *ours, *noise, "--quiet")
    assert status == 0, err
    assert "line@grey@resize(16)" in out
    assert re.search(r"PNG length\s*│[^│]*│\s*100\.0 \[", out), "noise does not compress"

    status, out, err = invoke(tmp_path, "export", "png-length", *ours, "--out", "v1", "--quiet")
    assert status == 0, err
    said = re.search(
        r"in where score ≤ (\S+): (\S+) % of (\d+) ID test images \(asked: 95 %\)", out
    )
    assert said, out
    assert int(said[3]) == 40  # a fifth of a folder without parts
    first = oodbench.load_detector(tmp_path / "v1")
    assert first.threshold == pytest.approx(float(said[1]), abs=1e-3)

    server, ask = serving(first)
    new = tmp_path / "new"
    photographs(new, 1000, 1012)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
        new / "noise.png"
    )
    try:
        answers = {path.name: ask(path.read_bytes()) for path in sorted(new.iterdir())}
    finally:
        server.shutdown()
        server.server_close()
    status, out, err = invoke(tmp_path, "score", "v1", "new")
    assert status == 0, err
    lines = [line.split(",") for line in out.splitlines()[1:]]
    assert len(lines) == 13
    for name, score, p_value, decision in lines:
        assert [float(score), float(p_value)] == answers[Path(name).name]
        assert decision == ("out" if float(p_value) <= 0.05 else "in")
    assert {Path(line[0]).name: line[3] for line in lines}["noise.png"] == "out"
    assert sum(line[3] == "in" for line in lines) >= 9

    photographs(tmp_path / "line", 200, 400)
    status, out, err = invoke(tmp_path, "run", *ours, *noise, "--dry-run")
    assert status == 0, err
    assert "nothing is missing" not in out, "the set has grown"
    status, out, err = invoke(tmp_path, "export", "png-length", *ours, "--out", "v1", "--quiet")
    assert status == 2
    assert "v1 is there already; give another folder with --out" in err
    status, out, err = invoke(tmp_path, "export", "png-length", *ours, "--out", "v2", "--quiet")
    assert status == 0, err
    second = oodbench.load_detector(tmp_path / "v2")
    assert (len(first.id_scores), len(second.id_scores)) == (40, 80)
    again = oodbench.load_detector(tmp_path / "v1")
    assert again.threshold == first.threshold, "the old export stays what it was"
    status, out, err = invoke(tmp_path, "score", "v2", "new/noise.png")
    assert (status, out.splitlines()[1].split(",")[3]) == (0, "out"), err
