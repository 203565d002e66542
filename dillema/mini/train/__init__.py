"""Recipes that make the weights of the small world: `python -m dillema.mini.train --help`."""
