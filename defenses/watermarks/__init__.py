"""Watermarks: deliberate false labels that identify a stolen model, and the statistics of an ownership claim."""
