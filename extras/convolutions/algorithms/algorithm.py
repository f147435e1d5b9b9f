"""Algorithm: the interface of all convolutions."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from layers import Layer


class UnfitError(Exception):
    """An algorithm cannot do a pass of this shape; the message says why."""


class Algorithm(ABC):
    """A convolution (a cross-correlation, as in all of deep learning) and its two gradients.

    x: images (N, C, H, W). F: filters (K, C, R, S). y: outputs (N, K, P, Q). dx, dF and dy are the
    gradients of a loss with respect to them. All are on one device, in one dtype; a result may have
    any memory format. Every method raises UnfitError if the algorithm cannot do this shape.
    """

    name: ClassVar[str]
    keeps_buffers: ClassVar[bool] = False  # whether its buffers outlive a call, unseen by any count

    @abstractmethod
    def forward(self, x: Tensor, F: Tensor, layer: Layer) -> Tensor:
        """y: y[n,k,p,q] = sum over c, r, s of F[k,c,r,s] * x[n, c, p * stride + r, q * stride + s].

        With padding, x has a border of zeros.
        """

    @abstractmethod
    def data_gradient(self, dy: Tensor, F: Tensor, layer: Layer) -> Tensor:
        """dx, from that of the outputs."""

    @abstractmethod
    def filter_gradient(self, dy: Tensor, x: Tensor, layer: Layer) -> Tensor:
        """dF, from that of the outputs."""


def padded(x: Tensor, layer: Layer) -> Tensor:
    """x with its border of zeros, (N, C, H + 2 * padding, W + 2 * padding); x itself without."""
    return functional.pad(x, [layer.padding] * 4) if layer.padding else x


def without_border(dx: Tensor, layer: Layer) -> Tensor:
    """The inverse of padded(), a view (N, C, H, W)."""
    border = layer.padding
    return dx[:, :, border : border + layer.H, border : border + layer.W]


def border_of(N: int, layer: Layer, like: Tensor) -> Tensor:
    """Zeros in the shape of padded images."""
    border = 2 * layer.padding
    return like.new_zeros(N, layer.C, layer.H + border, layer.W + border)


def seen_by(x: Tensor, r: int, s: int, layer: Layer) -> Tensor:
    """What the element (r, s) of a filter is multiplied with: a view (N, C, P, Q) of padded x."""
    u = layer.stride
    return x[:, :, r : r + u * layer.P : u, s : s + u * layer.Q : u]
