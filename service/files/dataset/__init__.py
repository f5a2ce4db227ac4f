"""Data sets: many files scored a shard at a time, on one machine or several, taken up where a run was interrupted."""
