"""One reader a file format in which people keep images; each gives `Contents`."""
