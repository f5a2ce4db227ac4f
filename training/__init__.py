"""From a data file to a bundle: data, the VAE, its objective, calibration and export."""
