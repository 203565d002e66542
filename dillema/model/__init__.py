"""Models under test: the options of the group `model`, and their common parts."""
