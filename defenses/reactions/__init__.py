"""What becomes of an account that raised an alarm."""
