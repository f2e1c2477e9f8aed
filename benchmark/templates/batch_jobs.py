"""The sbatch script that `oodbench new slurm` prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib.resources import files

from oodbench.errors import ConfigError

#: Seconds before the end at which the command saves and stops: a tenth of all, so many at most.
MOST_SPARED = 600


def slurm_script(
    command: Sequence[str], *, nodes: int, cpus: int, gpus: str, partition: str, time: str
) -> str:
    """A script for `oodbench run` with the words of `command` on so many nodes.

    `time` is Slurm's: minutes, ``H:MM:SS`` or ``D-HH:MM:SS``.  ConfigError where it is another's.
    """
    from jinja2 import Environment, StrictUndefined, select_autoescape

    seconds = slurm_seconds(time)
    stop = max(30, seconds - min(MOST_SPARED, seconds // 10))
    for name, word in (("--partition", partition), ("--gpus-per-node", gpus)):
        if not re.fullmatch(r"[\w.:,-]*", word):
            raise ConfigError(f"{name} {word!r} is no name of Slurm's")
    environment = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=select_autoescape(("html",), default_for_string=False),
    )
    text = files("oodbench.templates").joinpath("slurm", "job.sh.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        nodes=nodes, cpus=cpus, gpus=gpus, partition=partition, time=time,
        command=shlex.join(command), stop_after=stop,
    )  # fmt: skip


def slurm_seconds(text: str) -> int:
    """Seconds of a time limit as Slurm writes it: minutes, M:SS, H:MM:SS, D-HH, D-HH:MM:SS."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        raise ConfigError(f"{text!r} is no time of Slurm's; write 4:00:00 or 2-00:00:00")
    days, first, second, third = found.groups()
    if days is not None:
        hours, minutes, seconds = int(first), int(second or 0), int(third or 0)
    elif third is not None:
        hours, minutes, seconds = int(first), int(second), int(third)
    else:
        hours, minutes, seconds = 0, int(first), int(second or 0)
    whole = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    if whole < 60:
        raise ConfigError(f"{text!r} is less than a minute")
    return whole
