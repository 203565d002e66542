"""Measures of the quality of generated images: their similarity to originals and texts."""
