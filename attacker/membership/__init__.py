"""Membership inference: attacks that score whether a candidate was in the training set."""
