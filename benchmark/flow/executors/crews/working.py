"""What a worker does with a step, in a process of this machine or of another.

Every end is told as JSON: the verdict, why, and what there was to say.
"""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, cast

from oodbench.errors import DataError, OodbenchError, StoreError
from oodbench.flow.bench import Bench, BusyError
from oodbench.flow.executors.crews.messages import Setup, bench_of, read_step
from oodbench.flow.executors.crews.travelling import check_signature, unpacked
from oodbench.flow.executors.dispatch import Done, Verdict, per_fit
from oodbench.flow.executors.steps import do_step
from oodbench.interruption import Interrupted
from oodbench.progress import Progress
from oodbench.store.running.heartbeats import host, why
from oodbench.store.store import DamagedEntryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from oodbench.flow.executors.steps import Step


class Sayings(Progress):
    """Lines to the reader go to whoever gave the step; bars nowhere, heartbeats tell of them."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        super().__init__("quiet")
        self.lines: list[str] = []
        self._tell = tell or self.lines.append

    def say(self, line: str) -> None:
        """See `Progress`."""
        self._tell(line)


def prepare(text: str, tell: Callable[[str], None] | None = None) -> tuple[Setup, Bench]:
    """Set this process up as a `Setup` says: folder, project, plug-ins, bench.

    Raises OodbenchError where a plug-in cannot be loaded, MismatchError where this machine would
    compute something else.
    """
    from oodbench.declare.declarations import use_project
    from oodbench.declare.registry import load_plugin

    setup = Setup.read(text)
    if Path(setup.folder).is_dir():
        os.chdir(setup.folder)
    if setup.project is not None:
        use_project(str(unpacked(setup.project)))
    for plugin in setup.plugins:
        if "module" in plugin:
            load_plugin(str(plugin["module"]))
        else:
            load_plugin(str(unpacked(plugin) / str(plugin["file"])))
    check_signature(setup.signature, f"the machine {host()}")
    bench = bench_of(setup, Sayings(tell))
    return setup, bench


def do(setup: Setup, bench: Bench, text: str) -> str:
    """Make a step; how it ended, as JSON.  `Interrupted` becomes a verdict, too."""
    step = read_step(text)
    verdict, reason = Verdict.MADE, ""
    try:
        if per_fit(step):
            _set_threads(setup.threads)
        do_step(bench, step)
    except BusyError as busy:
        verdict, reason = Verdict.BUSY, str(busy)
    except Interrupted as stopped:
        verdict, reason = Verdict.STOPPED, stopped.where
    except DamagedEntryError as error:
        verdict, reason = Verdict.TROUBLED, str(error)
    except DataError as error:
        verdict, reason = Verdict.FAILED, str(error)
    except (StoreError, MemoryError) as error:
        verdict, reason = Verdict.TROUBLED, why(error)
    except OodbenchError as error:
        verdict, reason = Verdict.FAILED, str(error)
    except Exception as error:  # a bug of ours stops this step, not the others
        frame = traceback.extract_tb(error.__traceback__)[-1]
        verdict = Verdict.FAILED
        reason = f"{why(error)} ({Path(frame.filename).name}, line {frame.lineno})"
    return ending(step.key, verdict, reason, cast(Sayings, bench.progress).lines)


def ending(key: str, verdict: Verdict, reason: str, lines: list[str]) -> str:
    """How a step ended, as JSON; empties `lines`."""
    said = list(lines)
    lines.clear()
    return json.dumps({
        "key": key, "verdict": verdict.name, "why": reason, "said": said, "where": host()
    })  # fmt: skip


def read_ending(step: Step, text: str, where: str = "") -> Done:
    """Inverse of `ending`; `where` in place of the machine's own name."""
    read = json.loads(text)
    return Done(step, Verdict[read["verdict"]], read["why"], where or read["where"],
                tuple(read["said"]))  # fmt: skip


def _set_threads(threads: int) -> None:
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
