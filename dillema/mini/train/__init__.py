"""The recipes of the weights of the small world: `python -m dillema.mini.train --help`."""
