"""The serving benchmark; `soak.py` and `score_file.py` use its parts."""
