"""The steps of a run, one file each: what is computed, and what its result depends on."""
