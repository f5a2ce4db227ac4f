"""The VAE, its objectives and its scores, whatever a record is."""
