"""Where sets of one's own lie: what of it is opened, and what of it is shown."""
