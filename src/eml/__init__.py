"""Experiment tracking on MLflow for the exercises of the course Embedded Machine Learning."""
