"""The shapes of the convolutions that are measured."""

from dataclasses import dataclass

from torch import nn

from eml.data.specs import SPECS
from eml.models.torch_networks import cnn


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


def layers_of_the_cnn() -> list[Layer]:
    """The three convolutions of sheet 3's CNN."""
    layers = []
    _, H, W = SPECS["cifar10"].image_shape
    for name, module in cnn().named_children():
        if isinstance(module, nn.Conv2d):
            C, K = module.in_channels, module.out_channels
            (R, S), stride = module.kernel_size, module.stride[0]
            layer = Layer(name, C, H, W, K, R, S, stride)
            layers.append(layer)
            H, W = layer.P, layer.Q
    return layers


# From the training set of DeepBench (Baidu Research), code/kernels/conv_problems.h.
DEEPBENCH = [
    Layer("speech 5x20", 1, 161, 700, 32, 5, 20, stride=2),
    Layer("face 27x27", 128, 27, 27, 128, 3, 3, padding=1),
    Layer("vision 56x56", 128, 56, 56, 256, 3, 3, padding=1),
    Layer("vision 28x28 5x5", 192, 28, 28, 32, 5, 5, padding=2),
    Layer("resnet 14x14", 256, 14, 14, 256, 3, 3, padding=1),
]
