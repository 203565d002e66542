"""Training of models under test on originals, augmented images and counterfactuals."""

ORIGINALS, AUGMENTATION, COUNTERFACTUALS = ARMS = ("originals", "augmentation", "counterfactuals")
"""What a model is trained on: originals alone, or augmented images or counterfactuals as well."""
