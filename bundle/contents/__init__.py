"""What the documents of a bundle hold: manifest, scores, calibration, reference, explanation, golden records."""
