"""The routes, one file for each protocol or audience."""
