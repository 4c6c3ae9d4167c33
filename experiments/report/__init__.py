"""From results to a report."""
