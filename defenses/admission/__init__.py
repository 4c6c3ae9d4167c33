"""Limits and prices, which decide whether a query reaches the victim."""
