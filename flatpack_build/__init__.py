"""A declarative build system for edge AI: one ``flatpack.toml`` in, one signed box for each kind of hardware out."""

__version__ = "0.1.0"
