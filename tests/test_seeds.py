"""The random streams of a training."""

import numpy as np

from eml import seeds


def test_each_purpose_seed_and_epoch_has_a_stream_of_its_own():
    """The validation images, say, do not depend on how the initial weights are drawn."""
    streams = [seeds.test_subset_generator()]
    for seed in range(20):
        streams += [
            seeds.subset_generator(seed),
            seeds.weights_generator(seed),
            seeds.validation_generator(seed),
        ]
    orders = [stream.permutation(30) for stream in streams]
    orders += [seeds.order_of(seed, epoch, 30) for seed in range(20) for epoch in range(1, 41)]
    assert len({order.tobytes() for order in orders}) == len(orders) == 1 + 20 * 43
    assert all(sorted(order) == list(range(30)) for order in orders)


def test_the_streams_stay_those_of_older_runs():
    """So trainings of today can be compared with those in a store."""
    np.testing.assert_array_equal(
        seeds.order_of(7, 3, 50), np.random.default_rng([7, 3]).permutation(50)
    )
    for stream, entropy in (
        (seeds.subset_generator(7), [7, 0]),
        (seeds.weights_generator(7), [7, 0, 1]),
        (seeds.validation_generator(7), [7, 0, 2]),
        (seeds.test_subset_generator(), [0, 0, 3]),
    ):
        assert stream.random() == np.random.default_rng(entropy).random()
