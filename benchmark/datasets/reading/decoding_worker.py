"""A process that decodes image files for `parallel_decoding` until its input ends."""

from __future__ import annotations

import signal
import sys

from oodbench.datasets.reading.parallel_decoding import answer


def main() -> None:
    """Answer every line of standard input on standard output."""
    # The process that reads decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        answer(line, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
