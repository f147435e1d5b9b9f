"""Task 3.1: one step of gradient descent in exact fractions."""
