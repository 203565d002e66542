"""Captioners: what a person would write under an image."""
