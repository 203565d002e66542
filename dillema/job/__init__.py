"""The jobs, one module each, with one function that takes the configuration."""
