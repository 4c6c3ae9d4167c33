"""Attacks on language models, through their completions."""
