"""Measurements against other ways to do the same. Run one with `python -m benchmarks.NAME`."""
