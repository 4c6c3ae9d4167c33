"""Models that defences need beside the victim."""
