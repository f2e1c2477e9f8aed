"""The conformance suite of detectors: `oodbench check NAME`, `oodbench.testing.check_detector`."""
