"""The model bundle: the contract between training and serving, and the only code that they share."""
