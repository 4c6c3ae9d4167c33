"""The report: evidence as one page that a reader without statistics can follow."""
