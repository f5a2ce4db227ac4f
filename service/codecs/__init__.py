"""Bytes to tensors and scores to bytes, one file a format."""
