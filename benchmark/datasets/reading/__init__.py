"""What the readers of files share: decoding, values, labels, parts, and what was skipped."""
