"""The script of `oodbench new slurm` on a real Slurm: stopped in time, requeued, cancelled.

    python tests/cluster/slurm.py

As root, with Debian's `slurm-wlm` and `munge` installed: one controller and two `slurmd -N` of one
CPU each are started on this machine.  In turn a job comes to the end of its time (status 75, queued
again), is requeued by an administrator in the middle of a fit, and is cancelled; a second job then
ends what is left.  Store and table must be those of one process bit for bit but for times, and
nothing that was finished may have been made again.  Exit status 1 where not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmark"))

from ray_nodes import descendants
from same_stores import contents, table, written

from oodbench.store.running.heartbeats import beats_and_failures
from oodbench.store.store import Store

#: Fits that the first job cannot end in its time.
ASKED = ("--pair", "digits-photos", "--scale", "smoke", "--detector", "glow", "--seeds", "2",
         "--set", "training.epochs=60", "--checkpoint-seconds", "2", "--quiet")  # fmt: skip
CONF = """
ClusterName=oodbench
SlurmctldHost=localhost
SlurmctldPort=17100
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=20
NodeName=node[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[17101-17102] CPUs=1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def main() -> int:
    """Go through the life of the jobs; 1 where store or table differ."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        folder = Path(name)
        alone, shared = folder / "alone", folder / "shared"
        alone.mkdir()
        shared.mkdir()
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "oodbench", "run", *ASKED, "--store", "store"],
            cwd=alone, env=one_thread, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        say("made by one process")
        with slurm(folder):
            lives(shared)
        out = sorted(shared.glob("oodbench-*.out"))[-1].read_text()
        same = contents(shared / "store") == contents(alone / "store")
        tables = table(done.stdout).strip() in table(out)
        print(f"store {'the same' if same else 'OTHER'}, table {'same' if tables else 'OTHER'}")
        if not (same and tables):
            shutil.copytree(folder, kept := Path(tempfile.mkdtemp()), dirs_exist_ok=True)
            print(f"kept at {kept}")
        return 0 if same and tables else 1


def lives(folder: Path) -> None:
    """The jobs, in the folder that they share."""
    (folder / "short.sh").write_text(script("1:00"))
    (folder / "long.sh").write_text(script("1:00:00"))
    job = submit(folder, "short.sh")
    wait(lambda: running_fit(folder), "a fit")
    wait(lambda: job_field(job, "Restarts") == "1", "the end of its time, and the queue again")
    made = written(folder / "store")
    hurry(job)
    wait(lambda: running_fit(folder), "a fit that goes on")
    for beat in beats_and_failures(Store(folder / "store").storage)[0].values():
        say(f"  {beat.text}: from step {beat.first}, at {beat.done} of {beat.total}")
    tool("scontrol", "requeue", job)
    wait(lambda: job_field(job, "Restarts") == "2", "the requeue of an administrator")
    assert made.items() <= written(folder / "store").items(), "something was made again"
    made = written(folder / "store")
    hurry(job)
    wait(lambda: running_fit(folder), "a fit that goes on")
    tool("scancel", job)
    wait(lambda: job_field(job, "JobState") == "CANCELLED", "its cancelling")
    wait(lambda: not tool("squeue", "-h"), "an empty queue")
    assert made.items() <= written(folder / "store").items(), "something was made again"
    made = written(folder / "store")
    job = submit(folder, "long.sh")
    wait(lambda: job_field(job, "JobState") in ("COMPLETED", "FAILED"), "the end", 3600)
    assert job_field(job, "JobState") == "COMPLETED", (folder / f"oodbench-{job}.out").read_text()
    assert made.items() <= written(folder / "store").items(), "something was made again"


def script(limit: str) -> str:
    """The script of `oodbench new slurm`, with this environment's commands in its path."""
    said = subprocess.run(
        [sys.executable, "-m", "oodbench", "new", "slurm", "--nodes", "2", "--cpus-per-node", "1",
         "--time", limit, *ASKED, "--store", "store"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    return said.replace("set -u\n", f'set -u\nexport PATH="{Path(sys.executable).parent}:$PATH"\n')


# ---------------------------------------------------------------------- Slurm
@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """A controller and two nodes, ended with everything that they started."""
    (folder / "state").mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder))
    os.environ["SLURM_CONF"] = str(conf)
    started: list[subprocess.Popen[bytes]] = []
    try:
        if subprocess.run(["munge", "-n"], capture_output=True).returncode:
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            started.append(subprocess.Popen(["runuser", "-u", "munge", "--", "munged", "-F"]))
            wait(lambda: not subprocess.run(["munge", "-n"], capture_output=True).returncode,
                 "munge")  # fmt: skip
        started.append(subprocess.Popen(["slurmctld", "-D", "-i"], stderr=subprocess.DEVNULL))
        for node in ("node1", "node2"):
            (folder / f"spool-{node}").mkdir()
            started.append(
                subprocess.Popen(["slurmd", "-D", "-N", node], stderr=subprocess.DEVNULL)
            )
        wait(lambda: tool("sinfo", "-h", "-o", "%t %D").split() == ["idle", "2"], "two idle nodes")
        yield
    finally:
        for process in reversed(started):
            below = descendants(process.pid)
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            for one in (*below, process.pid):
                with suppress(ProcessLookupError):
                    os.kill(one, 9)


def tool(*words: str) -> str:
    """What a command of Slurm prints."""
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout.strip()


def submit(folder: Path, name: str) -> str:
    """The number of a job that was submitted in the folder."""
    done = subprocess.run(
        ["sbatch", "--parsable", name], cwd=folder, check=True, capture_output=True, text=True
    )
    say(f"{name}: job {done.stdout.strip()}")
    return done.stdout.strip()


def job_field(job: str, name: str) -> str:
    """What `scontrol show job` says of it."""
    found = re.search(rf"\b{name}=(\S*)", tool("scontrol", "show", "job", job))
    return found[1] if found else ""


def hurry(job: str) -> None:
    """Slurm lets a job that was queued again wait for two minutes; this one does not."""
    wait(lambda: job_field(job, "JobState") == "PENDING", "the queue")
    tool("scontrol", "update", f"JobId={job}", "StartTime=now")


def running_fit(folder: Path) -> bool:
    """Whether a fit tells of steps that it made in this life of the job."""
    with suppress(OSError):
        beats = beats_and_failures(Store(folder / "store").storage)[0].values()
        return any(
            beat.text.startswith("fit ") and beat.total and beat.done > beat.first + 5
            and Path(f"/proc/{beat.process}").exists()
            for beat in beats
        )  # fmt: skip
    return False


def wait(what: Callable[[], Any], name: str, seconds: float = 900.0) -> None:
    """Until it is so; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"{name} did not come"
        time.sleep(0.2)
    say(name)


def say(text: str) -> None:
    """A line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
