"""From models to what an account meets."""
