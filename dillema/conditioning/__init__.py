"""Conditionings: they extract the structure of the source that a generated image must keep."""
