"""Inspection: attacks that read off a model's answers how it was built."""
