"""Detectors watch what an account asks; their cores are folds over its rows, on arrays."""
