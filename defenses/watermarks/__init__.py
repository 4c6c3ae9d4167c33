"""Watermarks: answers that a stolen model gives away; the statistics of a claim stand here, the owner asks."""
