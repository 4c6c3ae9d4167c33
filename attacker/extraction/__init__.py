"""Stealing the model: attacks that leave a surrogate."""
