"""The scoring service: load a bundle, batch, score, answer, measure. It holds no torch."""
