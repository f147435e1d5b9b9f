"""Launchers carry out trainings in this process, in worker processes, or in jobs of a cluster."""
