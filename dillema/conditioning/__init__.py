"""Conditionings: the structure of the source image that a generated one must keep."""
