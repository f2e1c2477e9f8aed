"""What every detector and model computes, recorded: its revision, and its source's fingerprint.

    python tests/benchmark/record_sources.py      # writes recorded_sources.json anew

One key has one result.  Whoever changes what a detector or a model computes, be it the order of a
sum or which convolution is chosen, raises its revision; the test of this file names what changed
without one.  Where the change is shown to give the same bits, the file is written anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from oodbench.declare.recipes import MODELS
from oodbench.detect.detector import DETECTORS
from oodbench.detect.source_fingerprints import SCHEME, detector_source, model_source

RECORDED = Path(__file__).with_name("recorded_sources.json")


def recorded() -> dict[str, list[int | str | None]]:
    """`detector NAME` and `model NAME` with scheme, revision and fingerprint as they are now."""
    found: dict[str, list[int | str | None]] = {}
    for name in sorted(DETECTORS.names()):
        cls = DETECTORS.get(name)
        if cls.__module__.startswith("oodbench."):
            source = detector_source(cls)
            found[f"detector {name}"] = [SCHEME, cls.revision, source and source[:16]]
    for name in sorted(MODELS.names()):
        config = MODELS.get(name)
        if config.__module__.startswith("oodbench."):
            source = model_source(config)
            found[f"model {name}"] = [SCHEME, config.revision, source and source[:16]]
    return found


if __name__ == "__main__":
    now = recorded()
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in now.items())
    RECORDED.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    sys.stdout.write(f"{len(now)} recorded\n")
