"""Dataset inference (Maini et al., ICLR 2021)."""
