"""DILLEMA: counterfactual images that test vision models, with labels that still hold."""

__version__ = "0.1.0"
