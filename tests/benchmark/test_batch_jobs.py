"""The script for Slurm: what it asks for, and that bash takes it.  It was run on a real Slurm."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from in_process import invoke

from oodbench.errors import ConfigError
from oodbench.templates.batch_jobs import slurm_seconds


def test_the_script_asks_for_what_was_said_and_is_a_script(tmp_path: Path) -> None:
    status, out, _ = invoke(
        tmp_path, "new", "slurm", "--nodes", "4", "--time", "2-00:00:00", "--gpus-per-node", "2",
        "--partition", "long", "--suite", "table1", "--seeds", "5", "--store", "my store",
    )  # fmt: skip
    assert status == 0
    for line in ("#SBATCH --nodes=4", "#SBATCH --gpus-per-node=2", "#SBATCH --partition=long",
                 "#SBATCH --time=2-00:00:00", "#SBATCH --requeue"):  # fmt: skip
        assert line in out.splitlines()
    assert ("oodbench run --suite table1 --seeds 5 --store 'my store' --executor ray --address"
            ' "$address" --stop-after "${left}s"') in out  # fmt: skip
    assert "left=$((172200 - SECONDS))" in out
    assert subprocess.run(["bash", "-n"], input=out, text=True).returncode == 0


@pytest.mark.parametrize(("words", "said"), [
    (("--pairr", "x"), "oodbench: error: No such option"),
    (("--pairr", "x"), "--pairr"),
    (("--jobs", "2"), "--jobs is what the script says itself"),
    (("--time", "soon"), "is no time of Slurm's"),
    (("--partition", "a b"), "is no name of Slurm's"),
])  # fmt: skip
def test_what_it_cannot_be_is_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    status, out, err = invoke(tmp_path, "new", "slurm", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize(("text", "seconds"), [
    ("5", 300), ("5:30", 330), ("4:00:00", 14_400), ("1-12", 129_600), ("2-00:30", 174_600),
    ("1-01:01:01", 90_061),
])  # fmt: skip
def test_times_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    """sbatch(1): M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    assert slurm_seconds(text) == seconds
    with pytest.raises(ConfigError):
        slurm_seconds(f"{text}x")
