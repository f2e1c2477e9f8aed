"""What stands in a record beside an artefact: device, versions, commit; never part of a key."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from oodbench.canonical_json import JSON

PACKAGES = ("oodbench", "torch", "numpy", "scikit-learn", "pillow")


def machine_record(device: str) -> dict[str, JSON]:
    """Device, threads, Python and package versions, and the commit where there is a checkout."""
    kind = torch.device(device).type
    record: dict[str, JSON] = {
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if kind == "cuda" else processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "commit": commit(),
    }
    return record | {name: version(name) for name in PACKAGES}


@cache
def processor() -> str:
    """The CPU's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def commit() -> str | None:
    """Commit of the checkout that the code runs from, "-dirty" where it was changed; or None."""
    folder = Path(__file__).resolve().parents[1]  # of the package
    if not (folder.parent / "pyproject.toml").is_file():
        return None

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    return f"{head}-dirty" if head and git("status", "--porcelain", "-uno") else head


def peak_memory_mb(device: str) -> float:
    """Peak memory so far: of the GPU where one is used, else of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
