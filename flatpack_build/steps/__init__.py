"""The steps: one module each, one table that names them. A step sees its parameters, its inputs and ``out``."""
