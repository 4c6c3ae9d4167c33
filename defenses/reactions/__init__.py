"""Reactions to an account's alarm."""
