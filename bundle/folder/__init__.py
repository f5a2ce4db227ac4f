"""Bundles on disk: names, versions, digests, durable writing, what is served."""
