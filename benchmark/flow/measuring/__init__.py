"""The loop of measuring: a split in blocks, resumable, and every block in batches."""
