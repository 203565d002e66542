"""Generators: what paints a counterfactual caption over the structure of the source image."""
