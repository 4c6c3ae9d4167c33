"""Model extraction: attacks that train a surrogate."""
