"""Studies without a published counterpart."""
