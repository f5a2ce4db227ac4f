"""The experiments that people read about in papers on VAEs, as commands: `python -m benchmarks.studies.NAME DATA`."""
