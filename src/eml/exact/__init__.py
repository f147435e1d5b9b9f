"""One step of gradient descent by hand: the 5-3-1 ReLU network.

Every value is worked out in exact fractions, printed step by step, and logged as CSV; gradients
are compared with central differences in exact fractions, where no step is too small.

Source: sheet 3, task 3.1.
"""
