"""Rows become a trained model."""
