"""Getting bytes: one module a kind of source, with ``resolve`` (what is it now?) and ``fetch`` (that, and no other).

The only part of a build that reaches the network. Knows nothing of the store, the graph or the terminal.
"""
