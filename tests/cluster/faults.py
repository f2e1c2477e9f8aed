"""A full disk, a lost head and a node of another version, on a real Ray cluster.

    python tests/cluster/faults.py [disk] [head] [version]

As root (a disk that fills is a tmpfs of its own).  Each is followed by the same command under
better circumstances; store and table must then be those of one process bit for bit but for times,
and nothing that was finished may have been made again.  Exit status 1 where not.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmark"))

from ray_nodes import RayNodes
from same_stores import contents, table, written
from started_runs import beat, printed, start, until

import oodbench

ASKED = ("--pair", "digits-photos", "--scale", "smoke", "--detector", "vanilla-hvae", "--detector",
         "glow", "--detector", "mean-intensity", "--set", "training.epochs=40")  # fmt: skip


def full_disk(folder: Path) -> str:
    """The store's disk fills during the run and is made larger afterwards; the last table."""
    store = folder / "store"
    store.mkdir()
    whole = sum(path.stat().st_size for path in (folder.parent / "alone/store").rglob("*.*"))
    size = f"size={whole // 2048}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", store], check=True)
    try:
        with RayNodes() as nodes:
            status, _, err = run(folder, nodes)
            said = [line for line in err.splitlines() if "No space left" in line]
            print(f"a full disk: exit status {status}, {len(said)} lines say it:\n{err}")
            assert status in (1, 2)
            assert "Traceback" not in err
            made = written(store)
            subprocess.run(["mount", "-o", "remount,size=200m", store], check=True)
            status, out, err = run(folder, nodes)
            assert status == 0, err
            assert made.items() <= written(store).items(), "something was made again"
        shutil.copytree(store, folder / "kept")
    finally:
        subprocess.run(["umount", store], check=True)
    shutil.rmtree(store)
    (folder / "kept").rename(store)
    return out


def lost_head(folder: Path) -> str:
    """The head is killed in a fit, and with it the cluster; another cluster goes on."""
    with RayNodes() as nodes:
        words = ("--executor", "ray", "--address", nodes.address, "--checkpoint-seconds", "0.5")
        running = start(folder, *ASKED, *words, "--quiet")
        trained = until(lambda: (b := beat(folder, "glow")) and b.done > 30 and b)
        nodes.kill_head()
        _, err = running.communicate(timeout=600)
        print(f"a lost head at step {trained.done}: exit status {running.returncode}\n  "
              f"{err.strip().splitlines()[-1]}")  # fmt: skip
        assert running.returncode
        made = written(folder / "store")
    with RayNodes() as nodes:
        status, out, err = run(folder, nodes)
    assert status == 0, err
    assert made.items() <= written(folder / "store").items(), "something was made again"
    return out


def other_version(folder: Path) -> str:
    """The second node has a file of the package that differs: it must be left out, in one line."""
    other = folder / "other" / "oodbench"
    shutil.copytree(Path(oodbench.__file__).parent, other)
    with (other / "progress.py").open("a") as file:
        file.write("\nANOTHER = 1\n")
    with RayNodes() as nodes:
        nodes.kill_second()
        nodes.start_second(PYTHONPATH=str(other.parent))
        status, out, err = run(folder, nodes)
    assert status == 0, err
    said = [line for line in err.splitlines() if "left out" in line]
    print(f"another version: exit status {status}\n  " + "\n  ".join(said))
    assert len(said) == 1, err
    return out


def run(folder: Path, nodes: RayNodes) -> tuple[int, str, str]:
    """Exit status and both outputs of the command on the cluster."""
    running = start(folder, *ASKED, "--executor", "ray", "--address", nodes.address, "--quiet")
    out, err = running.communicate(timeout=900)
    return running.returncode, out, err


FAULTS: dict[str, Callable[[Path], str]] = {
    "disk": full_disk, "head": lost_head, "version": other_version,
}  # fmt: skip


def main() -> int:
    """Each fault in turn; 1 where store or table differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", nargs="*", help=f"{', '.join(FAULTS)}; unasked all of them")
    options = parser.parse_args()
    same = True
    with tempfile.TemporaryDirectory() as name:
        alone = Path(name) / "alone"
        alone.mkdir()
        expected = printed(alone, *ASKED, "--quiet")
        for fault in options.faults or FAULTS:
            folder = Path(name) / fault
            folder.mkdir()
            out = FAULTS[fault](folder)
            store = contents(folder / "store") == contents(alone / "store")
            tables = table(out) == table(expected)
            print(f"{fault}: store {'the same' if store else 'OTHER'}, "
                  f"table {'the same' if tables else 'OTHER'}", flush=True)  # fmt: skip
            same = same and store and tables
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
