"""Captioners: they describe an image in words."""
