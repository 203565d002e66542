"""The small world: a street-scene renderer, the models trained in it, and their weights."""
