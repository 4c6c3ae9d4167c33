"""The protocols in which rows are asked about."""
