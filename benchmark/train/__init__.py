"""Training: one loop, what its steps are given, when it ends, on which device."""
