"""What is going on in a store: heartbeats of running steps, failures, plans, checkpoints kept."""
