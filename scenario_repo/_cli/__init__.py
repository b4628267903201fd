"""The rooms of the command line; :mod:`scenario_repo.cli` is its door."""
