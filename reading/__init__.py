"""Data files as people have them: looked at, said, and read into tables; no model, no HTTP."""
