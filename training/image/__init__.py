"""All that is of images alone."""
