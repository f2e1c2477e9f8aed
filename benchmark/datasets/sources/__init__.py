"""Where images come from: embedded, published, drawn, or a user's own files."""
