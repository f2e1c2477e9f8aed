"""Steps on a Ray cluster: each node is asked first whether it would compute the same.

Ray places nothing by itself here: every step goes to a node that was found fit, within what the
node has of CPUs, GPUs and memory, so that a step whose node is lost goes to another, and nothing is
tried twice at once.  Ray starts the processes, gives each its GPUs, and tells when one is gone.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from oodbench.errors import ConfigError, OodbenchError
from oodbench.flow.executors.crews.messages import Setup, step_message
from oodbench.flow.executors.crews.processes import GRACE_SECONDS, THREAD_VARIABLES
from oodbench.flow.executors.crews.ray_tasks import do_on_node, greet_on_node
from oodbench.flow.executors.crews.staging import stage
from oodbench.flow.executors.crews.working import read_ending
from oodbench.flow.executors.dispatch import Done, Verdict, per_fit
from oodbench.interruption import SIGNALS

if TYPE_CHECKING:
    from oodbench.flow.bench import Bench
    from oodbench.flow.executors.crews.workers import Workers
    from oodbench.flow.executors.graph import Graph
    from oodbench.flow.executors.steps import Step

log = logging.getLogger("oodbench.flow")

#: Seconds between two looks at which nodes there are.
NODES_SECONDS = 2.0
#: Seconds that steps wait for a first node that is fit.
PATIENCE_SECONDS = 120.0
#: Seconds within which the head of a cluster answers.
CONNECT_SECONDS = 10.0
#: By how much sums of fractions of a CPU or GPU may be off.
SLACK = 1e-6


@dataclass(frozen=True)
class Needs:
    """What Ray sets aside for a step."""

    cpus: float
    gpus: float
    memory: float

    def within(self, free: Needs) -> bool:
        """Whether there is so much."""
        return (
            self.cpus <= free.cpus + SLACK
            and self.gpus <= free.gpus + SLACK
            and self.memory <= free.memory + SLACK
        )

    def less(self, other: Needs, sign: float = 1.0) -> Needs:
        """What is left of it."""
        return Needs(
            self.cpus - sign * other.cpus, self.gpus - sign * other.gpus,
            self.memory - sign * other.memory,
        )  # fmt: skip


@dataclass
class _Node:
    name: str
    whole: Needs
    free: Needs
    greeting: Any = None
    fit: bool = False
    alive: bool = True


@dataclass
class _Running:
    step: Step
    node: str
    needs: Needs
    since: float = field(default_factory=time.monotonic)


class RayCrew:
    """A crew (`oodbench.flow.executors.dispatch.Crew`) of the nodes of a Ray cluster.

    ConfigError where there is no cluster at the address, and where no node could take a step.
    """

    def __init__(self, bench: Bench, setup: Setup, workers: Workers, graph: Graph) -> None:
        self.tell: Callable[[str], None] = bench.progress.say
        self.workers, self.store, self.setup = workers, bench.store, setup
        self.loaded = graph.loaded
        variables = {name: str(workers.cpus) for name in THREAD_VARIABLES}
        self._threads = {"env_vars": variables}
        self._ours = False
        self.ray = import_module("ray")  # `Workers.check` has said where it is not installed
        self._connect()
        self._witness = f"work/status/witness-{os.getpid()}-{time.time_ns()}"
        self.store.storage.mark()
        self.store.storage.note(self._witness, b"a driver was here\n")
        self.nodes: dict[str, _Node] = {}
        self.running: dict[Any, _Running] = {}
        self._looked, self._began = 0.0, time.monotonic()
        self._refused: list[str] = []
        self._staged = False
        self._message: Any = None
        try:
            self._gpus_there = any(n["Resources"].get("GPU", 0) for n in self._alive())
            whole = self._setup(setup)
            self._message = self.ray.put(whole.message())
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------ the cluster
    def _connect(self) -> None:
        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.ray.is_initialized():
            return
        _check_answers(self.workers.address)
        main = threading.current_thread() is threading.main_thread()
        handlers = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
        try:
            if self.workers.address:
                self.ray.init(address=self.workers.address, **quiet)
            else:
                self.ray.init(address="local", include_dashboard=False, **quiet)
            self._ours = True
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            where = self.workers.address or "this machine"
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"no Ray cluster at {where}: {said}; start one with `ray start --head`, or leave"
                " out --address"
            ) from error
        finally:
            for number, handler in handlers.items():  # Ray takes SIGTERM for itself
                if handler is not None:
                    signal.signal(number, handler)

    def _setup(self, setup: Setup) -> Setup:
        """With what nodes are held to, and which folders of images they may lack."""
        device = setup.device
        if device == "auto" and not self._needs_of(fit=True).gpus:
            device = "cpu"  # the GPUs of a node are somebody else's
        paths = tuple(path for path in setup.data if os.path.isdir(path))
        return replace(setup, witness=self._witness, device=device, paths=paths)

    def _alive(self) -> list[Mapping[str, Any]]:
        try:
            return [node for node in self.ray.nodes() if node["Alive"]]
        except Exception as error:  # of many kinds, where the head is gone
            raise OodbenchError(
                f"the Ray cluster does not answer any more ({type(error).__name__}); what is"
                " finished is in the store, and the same command goes on"
            ) from error

    def _look(self) -> None:
        """Greet nodes that have joined, and let go of those that have left."""
        now = time.monotonic()
        if now - self._looked < NODES_SECONDS:
            return
        self._looked = now
        there = {str(node["NodeID"]): node for node in self._alive()}
        for name, node in list(self.nodes.items()):
            if name not in there:
                if node.alive and node.fit:
                    self.tell(f"node {node.name} is lost")
                node.alive = node.fit = False
        for name, about in there.items():
            if name in self.nodes:
                self.nodes[name].alive = True
                continue
            has = about["Resources"]
            whole = Needs(has.get("CPU", 0.0), has.get("GPU", 0.0), has.get("memory", 0.0))
            node = self.nodes[name] = _Node(str(about["NodeName"]), whole, whole)
            task = self.ray.remote(num_cpus=0, max_retries=0)(greet_on_node)
            node.greeting = task.options(
                scheduling_strategy=self._to(name), runtime_env=self._threads
            ).remote(self._message)
        self._read_greetings()
        if not any(node.fit for node in self.nodes.values()) and not self.running:
            self._give_up_without_nodes()

    def _read_greetings(self) -> None:
        for node in self.nodes.values():
            if node.greeting is None or not node.alive:
                continue
            ready, _ = self.ray.wait([node.greeting], timeout=0)
            if not ready:
                continue
            greeting, node.greeting = node.greeting, None
            lacks: list[str] = []
            try:
                read = json.loads(cast(str, self.ray.get(greeting)))
                refused, lacks = str(read["refused"]), list(read["lacks"])
            except Exception as error:  # it has not even oodbench, or went away meanwhile
                said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                refused = f"the machine {node.name} is left out: {said}"
            if refused:
                self._refused.append(refused)
                log.warning("%s", refused)  # also where no progress is shown
            else:
                if lacks:
                    self._stage(node.name, lacks)
                node.fit = True
                self._check_sizes()

    def _stage(self, machine: str, lacks: Sequence[str]) -> None:
        """Put the images into the store, once, for a machine that lacks them."""
        what = f"the machine {machine} has no {', '.join(lacks)} and takes images from the store"
        if self._staged:
            self.tell(what)
            return
        sent = stage(self.store.storage, self.loaded)
        self._staged = True
        self.tell(f"{what} ({sent / 2**20:,.0f} MiB were sent there)")

    def _give_up_without_nodes(self) -> None:
        waiting = [n for n in self.nodes.values() if n.alive and n.greeting is not None]
        patience = PATIENCE_SECONDS if waiting or not self._refused else 0.0
        if time.monotonic() - self._began > patience:
            reason = "; ".join(dict.fromkeys(self._refused)) or "none answers"
            raise ConfigError(f"no node of the Ray cluster can be used: {reason}")

    def _check_sizes(self) -> None:
        """One line, or an error, where no node is large enough for a fit."""
        needs = self._needs_of(fit=True)
        fit = [node for node in self.nodes.values() if node.fit]
        greeting = [node for node in self.nodes.values() if node.greeting is not None]
        if greeting or any(needs.within(node.whole) for node in fit):
            return
        asked = f"{needs.cpus:g} CPUs, {needs.gpus:g} GPUs, {needs.memory / 2**30:.1f} GiB"
        largest = max(fit, key=lambda node: (node.whole.gpus, node.whole.cpus)).whole
        raise ConfigError(
            f"no node has what a fit is given ({asked}); the largest has {largest.cpus:g} CPUs,"
            f" {largest.gpus:g} GPUs, {largest.memory / 2**30:.1f} GiB: lower --cpus-per-fit,"
            " --gpus-per-fit or --memory-per-fit"
        )

    def _to(self, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node, soft=False)

    # ------------------------------------------------------------------ steps
    def _needs_of(self, *, fit: bool) -> Needs:
        if not fit:
            return Needs(1.0, 0.0, 0.0)
        gpus = self.workers.gpus
        if gpus is None:
            gpus = 1.0 if self._gpus_there and self.setup.device != "cpu" else 0.0
        return Needs(float(self.workers.cpus), gpus, float(self.workers.memory))

    def slots(self) -> int:
        """How many fits can run at once."""
        needs, count = self._needs_of(fit=True), 0
        for node in self.nodes.values():
            if node.fit:
                limits = [
                    has / asked
                    for has, asked in (
                        (node.whole.cpus, needs.cpus), (node.whole.gpus, needs.gpus),
                        (node.whole.memory, needs.memory),
                    )
                    if asked > 0
                ]  # fmt: skip
                count += int(min(limits) + SLACK)
        return max(1, count)

    def begin(self, step: Step, avoided: Sequence[str] = ()) -> bool:
        """Send a step to the node with most room, elsewhere than in `avoided` if it can be."""
        self._look()
        needs = self._needs_of(fit=per_fit(step))
        able = [(n, node) for n, node in self.nodes.items() if node.fit and needs.within(node.free)]
        others = [one for one in able if one[0] not in avoided]
        if not able:
            return False
        fit_elsewhere = any(node.fit and n not in avoided for n, node in self.nodes.items())
        if not others and fit_elsewhere:
            return False
        name, node = max(others or able, key=lambda one: (one[1].free.gpus, one[1].free.cpus))
        task = self.ray.remote(max_retries=0)(do_on_node)
        options: dict[str, Any] = {
            "num_cpus": needs.cpus, "num_gpus": needs.gpus, "scheduling_strategy": self._to(name),
            "runtime_env": self._threads,
        }  # fmt: skip
        if needs.memory:
            options["memory"] = needs.memory
        future = task.options(**options).remote(self._message, step_message(step))
        node.free = node.free.less(needs)
        self.running[future] = _Running(step, name, needs)
        return True

    def ended(self, seconds: float) -> list[Done]:
        """What has ended, and what was lost with its process or its node."""
        self._look()
        if left_behind := self._left_behind():
            return left_behind
        if not self.running:
            time.sleep(min(seconds, 0.1))
            return []
        some, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        if not some:
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        return [self._end(future) for future in ready]

    def _left_behind(self) -> list[Done]:
        """Steps of nodes that Ray has counted out.

        It waits for their answers for minutes more where no connection was closed, as with a cable
        that is cut or a machine that is frozen.
        """
        found = []
        for future, running in list(self.running.items()):
            node = self.nodes[running.node]
            if not node.alive and not self.ray.wait([future], timeout=0)[0]:
                self._release(future)
                reason = f"its node is lost (on {node.name})"
                found.append(Done(running.step, Verdict.LOST, reason, running.node))
        return found

    def _release(self, future: Any) -> tuple[_Running, _Node]:
        """What ran, and its node, which has its room back."""
        running = self.running.pop(future)
        node = self.nodes[running.node]
        node.free = node.free.less(running.needs, -1.0)
        return running, node

    def _end(self, future: Any) -> Done:
        running, node = self._release(future)
        try:
            return read_ending(running.step, cast(str, self.ray.get(future)), running.node)
        except Exception as error:  # Ray's, of many kinds
            return Done(running.step, Verdict.LOST, self._reason(error, node), running.node)

    def _reason(self, error: Exception, node: _Node) -> str:
        kinds = {
            "WorkerCrashedError": "its process was killed",
            "NodeDiedError": "its node is lost",
            "OutOfMemoryError": "it was killed for want of memory",
            "TaskUnschedulableError": "its node is lost",
            "RayActorError": "its process was killed",
        }
        kind = type(error).__name__
        said = (str(error).strip().splitlines() or [""])[0]
        return f"{kinds.get(kind, f'{kind}: {said}')} (on {node.name})"

    def stop(self) -> list[Done]:
        """Ask every step to save and stop, and wait until it has."""
        for future in list(self.running):
            self.ray.cancel(future, force=False)
        until = time.monotonic() + GRACE_SECONDS
        found: list[Done] = []
        while self.running and time.monotonic() < until:
            found += self.ended(0.5)
        return found

    def close(self) -> None:
        """Let the cluster go; what still runs is ended, a cluster of our own with it."""
        from contextlib import suppress

        with suppress(Exception):
            self.store.storage.remove(self._witness)
        for future in list(self.running):
            with suppress(Exception):
                self.ray.cancel(future, force=True)
        self.running.clear()
        if self._ours:
            with suppress(Exception):
                self.ray.shutdown()


def _check_answers(address: str) -> None:
    """ConfigError where nobody answers at ``HOST:PORT``, for which Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "//" in address:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster at {address}: {error.strerror or error}; start one with `ray start"
            " --head`, or leave out --address"
        ) from error
