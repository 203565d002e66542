"""Models under test: options of the group `model`, and what they have in common."""
