"""Many workers: the options that say who makes the steps, and what of a plan is done."""
