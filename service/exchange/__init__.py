"""One request for scores, from its path to its answer, whatever the protocol."""
