"""Rows to train on: where they come from, how they are divided, and the file that holds them."""
