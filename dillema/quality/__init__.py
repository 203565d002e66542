"""Measures of generated images: how near they stay to their originals and texts."""
