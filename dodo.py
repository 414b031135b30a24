"""doit reads the warehouse through the loader that pyproject.toml names ([tool.doit] loader = "flatpack").

Tasks of your own (functions called task_...) may be added here; they run beside those of the flatpacks.
"""
