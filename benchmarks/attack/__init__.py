"""Attacks on a running service of one's own: what each does to its memory, its health checks and its other clients."""
