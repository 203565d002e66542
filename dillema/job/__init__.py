"""What a configuration can be asked to do.

One module a job, with one function that takes the configuration.
"""
