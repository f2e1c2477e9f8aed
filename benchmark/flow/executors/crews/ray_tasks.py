"""What runs in a process that Ray starts: greetings and steps.  Texts in, texts out.

A process sets itself up once for all steps of a driver.  A request to stop is an interrupt, as
Ctrl-C is: what runs saves and stops.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import TYPE_CHECKING

from oodbench.errors import OodbenchError
from oodbench.flow.executors.crews.messages import Setup, read_step
from oodbench.flow.executors.crews.travelling import MismatchError
from oodbench.flow.executors.crews.working import do, ending, prepare
from oodbench.flow.executors.dispatch import Verdict
from oodbench.interruption import Interrupted, listening
from oodbench.store.running.heartbeats import host

if TYPE_CHECKING:
    from oodbench.flow.bench import Bench


@lru_cache(maxsize=2)
def _prepared(message: str) -> tuple[Setup, Bench]:
    return prepare(message)


def greet_on_node(message: str) -> str:
    """As JSON: why a node cannot be used, in one line, "" where it would compute the same; and the
    folders of images that it lacks.
    """
    refused, lacks = "", list[str]()
    try:
        setup, bench = _prepared(message)
        lacks = [path for path in setup.paths if not os.path.isdir(path)]
        if bench.store.storage.read(setup.witness) is None:
            refused = (
                f"the machine {host()} is left out: it does not see the store"
                f" {bench.store.storage.location}; give a folder that all machines share, or a URL"
            )
    except MismatchError as error:
        refused = str(error)
    except OodbenchError as error:
        refused = f"the machine {host()} is left out: {error}"
    return json.dumps({"refused": refused, "lacks": lacks})


def do_on_node(message: str, text: str) -> str:
    """Make a step; how it ended, as `oodbench.flow.executors.crews.working.ending` has it."""
    try:
        with listening():
            setup, bench = _prepared(message)
            return do(setup, bench, text)
    except (Interrupted, KeyboardInterrupt) as stopped:
        where = getattr(stopped, "where", "")
        return ending(read_step(text).key, Verdict.STOPPED, where, [])
    except OodbenchError as error:
        return ending(read_step(text).key, Verdict.TROUBLED, str(error), [])
