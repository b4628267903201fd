"""The types of the public surface, checked by mypy and pyright and never run."""
