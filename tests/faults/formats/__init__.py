"""The formats that are damaged, one module a group."""
