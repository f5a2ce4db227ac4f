"""A data file becomes a table and its split; it holds no torch."""
