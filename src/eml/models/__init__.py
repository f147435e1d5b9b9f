"""Networks, and the learners that train them."""
