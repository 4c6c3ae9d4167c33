"""HTTP without the protocols."""
