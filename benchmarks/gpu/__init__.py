"""A check of the server on a GPU, in phases that each have a time limit."""
