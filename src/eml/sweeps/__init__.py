"""Sweeps: the status and plan of several trainings, and the search for learning rates."""
