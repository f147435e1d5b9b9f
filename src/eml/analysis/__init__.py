"""Tables and figures from histories; no MLflow, no torch."""
