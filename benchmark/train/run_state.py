"""The state of a training that a checkpoint holds beside the tensors."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrainingRun:
    """Steps and seconds so far, sums of the epoch, its log, and what early stopping has seen."""

    step: int = 0
    seconds: float = 0.0
    resumed: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    waited: int = 0
