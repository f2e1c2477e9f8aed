"""From scores to numbers: metrics with intervals, and paired tests."""
