"""Language models: trained, saved, and asked token by token."""
