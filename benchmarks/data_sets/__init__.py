"""What `benchmarks/scale.py` measures with: processes that are watched, and storage whose requests are counted."""
