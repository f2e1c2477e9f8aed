"""Three nodes that share nothing but a network: namespaces joined by a bridge, the store on S3.

    python tests/cluster/namespaces.py

As root, with `ip` and `unshare`.  Every node has an address, a host name and a mount of its own
over the folder of the work; the store is a server of S3 on the bridge that now and then answers 503
or drops the connection.  In the middle of a fit its node is cut off the network: it must go on on
another from the checkpoint in the store.  Store and table must be those of one process bit for bit
but for times.  What crossed the network is printed by node.  Exit status 1 where anything differs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmark"))

from flaky_s3 import s3_server
from ray_nodes import descendants
from same_stores import contents, table
from started_runs import until

from oodbench.store.running.heartbeats import Beat, beats_and_failures
from oodbench.store.store import Store

ASKED = ("--pair", "digits-photos", "--pair", "china-flower", "--scale", "smoke", "--detector",
         "vanilla-hvae", "--detector", "glow", "--detector", "mean-intensity", "--seeds", "2",
         "--set", "training.epochs=40", "--quiet")  # fmt: skip
NODES = ("oonode0", "oonode1", "oonode2")
BRIDGE, NET, PORT = "oobridge", "10.77.0", 20077
STORE = "s3://bucket/store"


def main() -> int:
    """Make the suite there and here; 1 where store or table differ."""
    with tempfile.TemporaryDirectory(prefix="oo-", dir="/tmp") as name, network():
        folder = Path(name)
        (folder / "alone").mkdir()
        alone = subprocess.run(
            [sys.executable, "-m", "oodbench", "run", *ASKED, "--store", "store"],
            cwd=folder / "alone", env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True,
            stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip
        say("made by one process")
        with s3_server(f"{NET}.1") as (address, flaky):
            os.environ |= {
                "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
            }  # fmt: skip
            flaky.busy, flaky.drop = 29, 31
            out = on_three_nodes(folder)
            flaky.busy = flaky.drop = 0
            say(f"{flaky.refused} answers of the server were 503 or none")
            fits = {e.digest: e.record for e in Store(STORE).entries("fit")}
            went_on = sum(int(str(record["resumed"])) > 0 for record in fits.values())
            same = contents(STORE) == contents(folder / "alone" / "store")
            tables = table(out) == table(alone)
        print(f"{len(fits)} fits, {went_on} of them went on elsewhere")
        print(f"store {'the same' if same else 'OTHER'}, table {'same' if tables else 'OTHER'}")
        return 0 if same and tables and went_on else 1


def on_three_nodes(folder: Path) -> str:
    """What the driver prints; its nodes are started and ended here."""
    ray = str(Path(sys.executable).parent / "ray")
    size = ("--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", "80000000",
            "--disable-usage-stats", "--block")  # fmt: skip
    started = []
    try:
        with (folder / "log").open("wb") as log:
            for number, node in enumerate(NODES):
                words = ("--address", f"{NET}.10:{PORT}") if number else (
                    "--head", "--port", str(PORT), "--temp-dir", str(folder / "ray"),
                    "--include-dashboard", "false")  # fmt: skip
                command = (ray, "start", *words, f"--node-ip-address={NET}.{10 + number}", *size)
                started.append(inside(folder, node, command, log))
                until(lambda n=number: (folder / "log").read_text().count("runtime started") > n)
        say("three nodes are up")
        driver = inside(folder, NODES[0], (
            sys.executable, "-m", "oodbench", "run", *ASKED, "--executor", "ray", "--address",
            f"{NET}.10:{PORT}", "--store", STORE, "--checkpoints", "store",
            "--checkpoint-seconds", "1",
        ), subprocess.PIPE)  # fmt: skip
        started.append(driver)
        beat = until(far_fit)
        say(f"{beat.host} is cut off: {beat.text}, step {beat.done} of {beat.total}")
        run("ip", "link", "set", f"{beat.host}v", "down")
        out, err = driver.communicate(timeout=1800)
        assert driver.returncode == 0, err
        say("the driver has ended")
        crossed()
        return out
    finally:
        for process in reversed(started):
            for one in (*descendants(process.pid), process.pid):
                try:
                    os.kill(one, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()


def far_fit() -> Beat | None:
    """A fit on a node that is not the driver's and has a checkpoint in the store."""
    storage = Store(STORE).storage
    for digest, beat in beats_and_failures(storage)[0].items():
        far = beat.host in NODES[1:] and beat.text.startswith("fit ") and beat.total
        if far and storage.names(f"work/{digest}"):
            return beat
    return None


# ---------------------------------------------------------------------- namespaces
@contextmanager
def network() -> Iterator[None]:
    """A bridge with an address of this machine's, and a namespace for every node."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        run("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for number, node in enumerate(NODES):
            run("ip", "netns", "add", node)
            run("ip", "link", "add", f"{node}v", "type", "veth", "peer", "name", "eth0",
                "netns", node)  # fmt: skip
            run("ip", "link", "set", f"{node}v", "master", BRIDGE, "up")
            here = ("ip", "-n", node)
            run(*here, "addr", "add", f"{NET}.{10 + number}/24", "dev", "eth0")
            run(*here, "link", "set", "eth0", "up")
            run(*here, "link", "set", "lo", "up")
        yield
    finally:
        for node in NODES:
            subprocess.run(["ip", "netns", "del", node], check=False)
            # A process that is left keeps its namespace and would keep the link.
            subprocess.run(["ip", "link", "del", f"{node}v"], check=False)
        run("ip", "link", "del", BRIDGE)


def inside(
    folder: Path, node: str, command: Sequence[str], output: object
) -> subprocess.Popen[str]:
    """A process of a node: its network, its host name and, but for the first, its own folder."""
    own = folder / f"of-{node}"
    own.mkdir(exist_ok=True)
    mount = "" if node == NODES[0] else f"mount --bind {own} {folder} && "
    return subprocess.Popen(
        ["ip", "netns", "exec", node, "unshare", "--mount", "--uts", "sh", "-c",
         f'hostname {node} && {mount}cd {folder} && exec "$@"', "sh", *command],
        env=os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=output, stderr=output, text=True,
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


def crossed() -> None:
    """Print the bytes that every node sent and received."""
    for node in NODES:
        said = run("ip", "-s", "link", "show", f"{node}v")
        received, sent = re.findall(r"[RT]X:.*\n\s+(\d+)", said)
        print(f"{node}: {int(received) / 1e6:.1f} MB sent, {int(sent) / 1e6:.1f} MB received")


def run(*words: str) -> str:
    """What a command prints; CalledProcessError where it fails."""
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def say(text: str) -> None:
    """A line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was set up is taken down
    sys.exit(main())
