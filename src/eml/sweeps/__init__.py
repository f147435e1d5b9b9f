"""Several trainings as one: their status, their plan, the search for learning rates."""
