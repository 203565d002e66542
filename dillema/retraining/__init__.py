"""Training of models under test on originals, augmented images and counterfactuals."""

ORIGINALS, AUGMENTATION, COUNTERFACTUALS = ARMS = ("originals", "augmentation", "counterfactuals")
"""The arms: a model is trained on originals only, or also on augmented images or counterfactuals."""
