"""Sockets, signals and workers: uvicorn with limits and a drain."""
