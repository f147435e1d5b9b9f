"""MNIST and CIFAR-10: where they come from, their cache, subsets and splits."""
