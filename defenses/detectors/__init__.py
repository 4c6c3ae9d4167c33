"""Detectors of attacks: pure folds over the rows that accounts send."""
