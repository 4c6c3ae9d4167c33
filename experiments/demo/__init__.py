"""All parties against one another."""
