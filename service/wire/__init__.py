"""One HTTP exchange: a body in within its limits, a refusal out."""
