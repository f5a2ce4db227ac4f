"""Tensors and a question in, verdicts out, in batches."""
