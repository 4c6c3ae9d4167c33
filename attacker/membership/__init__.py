"""Spying on the training set: attacks that leave a score for each candidate."""
