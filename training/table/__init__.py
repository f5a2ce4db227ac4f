"""All that is of tables alone."""
