"""A Ray cluster of two nodes on this machine, each started by itself, so that one can be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

SIZE = ("--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", "80000000",
        "--disable-usage-stats", "--block")  # fmt: skip


def parent(process: int) -> int:
    """The parent of a process, 0 where it is gone."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def on_second(process: int) -> bool:
    """Whether a worker is one of the node that is not the head."""
    try:
        return b"--head" not in Path(f"/proc/{parent(process)}/cmdline").read_bytes()
    except OSError:
        return False


class RayNodes:
    """The nodes, of one CPU each; `address` is the head's."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        # The path of a socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="oo-", dir="/tmp"))
        self.log = self.folder / "log"
        self.head: subprocess.Popen[bytes] | None = None
        self.second: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RayNodes:
        self.log.touch()
        self.head = self._start(
            "--head", "--port", self.address.partition(":")[2], "--node-ip-address", "127.0.0.1",
            "--temp-dir", str(self.folder / "ray"), "--include-dashboard", "false",
        )  # fmt: skip
        self.start_second()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.second, self.head):
            if process is not None:
                _end(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_second(self, **environment: str) -> None:
        """Start the second node, again where it was killed, with these variables besides."""
        self.second = self._start("--address", self.address, **environment)

    def kill_second(self) -> None:
        """SIGKILL of everything that is the second node."""
        _kill(self.second)

    def kill_head(self) -> None:
        """SIGKILL of everything that is the head, and so of the cluster."""
        _kill(self.head)

    def _start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        before = self.log.read_bytes().count(b"Ray runtime started")
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / "ray"), "start", *words, *SIZE],
                env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + 240
        while self.log.read_bytes().count(b"Ray runtime started") == before:
            said = self.log.read_text()[-2000:]
            assert time.monotonic() < end, said
            assert process.poll() is None, said
            time.sleep(0.1)
        return process


def descendants(process: int) -> list[int]:
    """All processes below one."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            below.setdefault(parent(int(entry.name)), []).append(int(entry.name))
    found = list(below.get(process, []))
    for child in found:  # grows while it is gone through
        found += below.get(child, [])
    return found


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    assert process is not None
    for one in (*descendants(process.pid), process.pid):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    below = descendants(process.pid)
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in below:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
