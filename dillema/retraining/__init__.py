"""Training of models under test on originals, augmented images and counterfactuals."""
