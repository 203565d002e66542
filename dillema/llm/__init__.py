"""Language models, which answer in JSON that fits a schema."""
