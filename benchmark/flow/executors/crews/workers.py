"""Who makes the steps of a plan, and what each fit is given."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from oodbench.errors import ConfigError


@dataclass(frozen=True)
class Workers:
    """Who makes the steps: `jobs` processes here, or a Ray cluster at `address` ("" for its own).

    `cpus`, `gpus` and `memory` (bytes) are what each fit and measurement is given; the threads of a
    worker are its CPUs.
    """

    executor: str = "local"
    jobs: int = 1
    address: str = ""
    cpus: int = 1
    gpus: float | None = None
    memory: int = 0

    def check(self) -> None:
        """ConfigError on a combination that has no meaning, and on a lack of Ray."""
        if self.executor not in ("local", "ray"):
            raise ConfigError(f"executor {self.executor!r}: one of local, ray")
        if self.executor == "ray" and self.jobs != 1:
            raise ConfigError("--jobs is for this machine alone; Ray takes what the cluster has")
        if self.executor == "ray" and find_spec("ray") is None:
            raise ConfigError("--executor ray needs the package ray; pip install 'oodbench[ray]'")
        if self.executor == "local" and (self.address or self.gpus is not None or self.memory):
            raise ConfigError(
                "--address, --gpus-per-fit and --memory-per-fit go with --executor ray"
            )
        if self.executor == "local" and self.jobs == 1 and self.cpus != 1:
            raise ConfigError("--cpus-per-fit goes with --jobs or --executor ray")

    @property
    def planned(self) -> bool:
        """Whether steps are handed out, and not jobs done one after another in this process."""
        return self.executor == "ray" or self.jobs > 1
