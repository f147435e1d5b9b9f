"""The convolutions that are measured: their shapes, in the symbols of the paper."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """The shape of a convolution, for any number N of images."""

    name: str
    C: int  # input maps
    H: int  # their rows
    W: int  # their columns
    K: int  # filters, as many as output maps
    R: int  # rows of a filter
    S: int  # columns of a filter
    stride: int = 1  # along rows and columns
    padding: int = 0  # zeros on each of the four sides

    @property
    def P(self) -> int:
        """Rows of an output map."""
        return (self.H + 2 * self.padding - self.R) // self.stride + 1

    @property
    def Q(self) -> int:
        """Columns of an output map."""
        return (self.W + 2 * self.padding - self.S) // self.stride + 1

    def flop(self, N: int) -> int:
        """Multiplications and additions of the direct algorithm, in each of the three passes."""
        return 2 * N * self.K * self.P * self.Q * self.C * self.R * self.S


# The three convolutions of sheet 3's CNN.
CNN = [
    Layer("conv1", 3, 32, 32, 32, 3, 3),
    Layer("conv2", 32, 30, 30, 64, 3, 3, stride=2),
    Layer("conv3", 64, 14, 14, 128, 3, 3),
]

# From the training set of DeepBench (Baidu Research), code/kernels/conv_problems.h.
DEEPBENCH = [
    Layer("speech 5x20", 1, 161, 700, 32, 5, 20, stride=2),
    Layer("face 27x27", 128, 27, 27, 128, 3, 3, padding=1),
    Layer("vision 56x56", 128, 56, 56, 256, 3, 3, padding=1),
    Layer("vision 28x28 5x5", 192, 28, 28, 32, 5, 5, padding=2),
    Layer("resnet 14x14", 256, 14, 14, 256, 3, 3, padding=1),
]

LAYERS = {"cnn": CNN, "deepbench": DEEPBENCH}
