"""Defences that change the answer."""
