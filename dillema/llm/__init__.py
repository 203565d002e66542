"""Language models that reply with JSON for a schema."""
