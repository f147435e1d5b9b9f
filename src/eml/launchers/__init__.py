"""Where a training runs: here, in worker processes, or on a cluster."""
