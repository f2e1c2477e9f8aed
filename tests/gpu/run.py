"""Everything that needs a GPU, in one run of at most ten minutes.

    python tests/gpu/run.py --out FOLDER --data FOLDER [--reference hvae-oodd] [--minutes 10]
    python tests/gpu/run.py --out FOLDER --data FOLDER --device cpu --tiny

Four parts, in order and each within its share of the time: a. statistics on the CPU and on the GPU
(`agreement`); b. nothing waits (`waiting`); c. speed (`speed`); d. a paper's recipe for the time
that is left (`paper_recipe`).  Every result is a line of FOLDER/results.jsonl as it comes; what
fails is one too, and the next part goes on.  No network is asked for.  The status is 1 where a part
failed or a bar was missed.  `--tiny` runs every line on small models in seconds.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from agreement import agreement
from paper_recipe import paper_recipe
from session import FULL, TINY, Session, TimeUpError
from speed import speed
from waiting import waiting

from oodbench.store.provenance import machine_record
from oodbench.train.devices import pick_device

#: Parts by letter, with their share of the time; the last takes what is left.
PARTS: dict[str, tuple[Callable[[Session], None], float]] = {
    "a": (agreement, 0.12), "b": (waiting, 0.12), "c": (speed, 0.36), "d": (paper_recipe, 1.0),
}  # fmt: skip
#: Seconds of a run that are kept for writing.
SPARE = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; 0 where all that can be told is as it should be."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    seconds = 60.0 * options.minutes
    session = Session(
        pick_device(options.device), TINY if options.tiny else FULL, options.out,
        time.monotonic() + seconds - SPARE, tuple(options.data), options.reference,
    )  # fmt: skip
    session.write("the run", tiny=options.tiny, machine=machine_record(session.device))
    for letter in options.parts:
        part, share = PARTS[letter]
        session.part = letter
        perform(session, part, min(session.left, share * seconds))
    for missed in session.missed:
        print(f"not as it should be: {missed}", file=sys.stderr)
    return 1 if session.missed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the results")
    parser.add_argument("--data", action="append", default=[], help="folder of image arrays")
    parser.add_argument("--reference", type=Path, help="clone of the public code, hvae-oodd")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--parts", default="abcd", help="some of the letters a to d")
    parser.add_argument("--tiny", action="store_true", help="small models, for a processor")
    options = parser.parse_args(arguments)
    if (options.out / "results.jsonl").exists():
        parser.error(f"{options.out} has results already; name a new folder")
    if not options.parts or set(options.parts) - set(PARTS):
        parser.error(f"--parts {options.parts}: letters among {''.join(PARTS)}")
    return options


def perform(session: Session, part: Callable[[Session], None], seconds: float) -> None:
    """One part; what it raises is written down."""
    started = time.monotonic()
    try:
        with time_box(seconds):
            part(session)
    except TimeUpError:
        session.bar("over", None, time_up=True, seconds=time.monotonic() - started)
    except Exception as error:
        session.bar("failed", False, error=repr(error), where=traceback.format_exc())
    else:
        session.write("over", time_up=False, seconds=time.monotonic() - started)


@contextmanager
def time_box(seconds: float) -> Iterator[None]:
    """TimeUpError once the seconds are over."""

    def up(number: int, frame: FrameType | None) -> None:
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    sys.exit(main())
