"""Launchers carry out trainings in this process, in worker processes, or on a cluster."""
