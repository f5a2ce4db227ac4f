"""A trained model becomes graphs that are proved equal to it."""
