"""Formats of tables of records, a file a format."""
