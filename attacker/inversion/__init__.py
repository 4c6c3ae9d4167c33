"""Model inversion: attacks that reconstruct what a class looks like."""
