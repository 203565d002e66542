"""Gates: whether a generated image may count as a test."""
