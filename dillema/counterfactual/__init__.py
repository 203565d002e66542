"""What in a caption may change, to what, and the caption afterwards."""
