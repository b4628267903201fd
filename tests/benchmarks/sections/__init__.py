"""One module per section of the table."""
