"""A bundle measured on rows that nothing was fitted on, beside baselines."""
