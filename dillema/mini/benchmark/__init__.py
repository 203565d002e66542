"""What the default run and the small models achieve: `python -m dillema.mini.benchmark [--only PART ...]`."""
