"""Running steps as others see them: heartbeats that tell how far they are."""
