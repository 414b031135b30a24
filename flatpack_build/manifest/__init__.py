"""``flatpack.toml``: its model, how it is read, and what its errors say. Importing this package imports nothing heavy."""
