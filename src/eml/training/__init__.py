"""One training, without MLflow: the loop, its clocks, checkpoints, progress, cost."""
