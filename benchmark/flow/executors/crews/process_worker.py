"""A worker process of `oodbench run --jobs`: steps come in on a pipe, their ends go out on another.

What plug-ins print goes to standard error.  A worker whose parent dies saves and stops.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading

from oodbench.errors import OodbenchError
from oodbench.flow.executors.crews.working import do, prepare
from oodbench.flow.executors.dispatch import Verdict
from oodbench.interruption import Interrupted, listening


def main() -> None:
    """Serve until the parent closes the pipe; 0 then, 1 where this process cannot be set up."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(line: str) -> None:
        out.write(line + "\n")
        out.flush()

    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(lines, busy), daemon=True, name="steps").start()
    try:
        with listening():
            first = lines.get()
            if first is None:
                return
            try:
                setup, bench = prepare(first, lambda line: tell(json.dumps({"say": line})))
            except OodbenchError as error:
                tell(json.dumps({"refused": str(error)}))
                sys.exit(1)
            tell(json.dumps({"ready": True}))
            while (line := lines.get()) is not None:
                busy.set()
                ended = do(setup, bench, line)
                tell(ended)
                busy.clear()
                if json.loads(ended)["verdict"] == Verdict.STOPPED.name:
                    return
    except Interrupted:
        return


def _listen(lines: queue.SimpleQueue[str | None], busy: threading.Event) -> None:
    """Lines of the parent; where it is gone, the step that runs is asked to save and stop."""
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
