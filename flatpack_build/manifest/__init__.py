"""``flatpack.toml``: its model, how it is read, and what its errors say. Importing it imports nothing heavy."""
