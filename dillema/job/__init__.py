"""What a configuration can be asked to do: one module a job, with one function that takes the configuration."""
