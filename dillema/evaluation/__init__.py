"""What the models under test say about the images, and what follows from it."""
