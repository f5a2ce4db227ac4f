"""Bundles opened, verified, and served beside their shadow."""
