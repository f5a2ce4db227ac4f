"""What scores take from other detectors: coreset, neighbours, typicality, and one scale for all."""
