"""Generators: they paint a counterfactual caption with the structure of the source image."""
