"""Trainings in jobs of a Slurm cluster."""
