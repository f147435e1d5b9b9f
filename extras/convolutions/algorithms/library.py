"""The convolutions that PyTorch's wheel holds, each called by name."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from algorithms.algorithm import Algorithm, UnfitError
from layers import Layer

aten = torch.ops.aten
FORWARD_ALONE = "PyTorch calls it for the forward pass alone"


class _Library(Algorithm):
    """A library with one function for both gradients, of which a mask selects one."""

    def data_gradient(self, dy: Tensor, F: Tensor, layer: Layer) -> Tensor:
        x = dy.new_empty(len(dy), layer.C, layer.H, layer.W)  # its shape counts, not its numbers
        return self._backward(dy, x, F, layer, 0)

    def filter_gradient(self, dy: Tensor, x: Tensor, layer: Layer) -> Tensor:
        F = dy.new_empty(layer.K, layer.C, layer.R, layer.S)  # the same
        return self._backward(dy, x, F, layer, 1)

    @abstractmethod
    def _backward(self, dy: Tensor, x: Tensor, F: Tensor, layer: Layer, wanted: int) -> Tensor:
        """The gradient of x (wanted 0) or of F (wanted 1)."""


class SlowConv2d(_Library):
    """PyTorch's own for CPUs: im2col image by image, and MKL's matrix product."""

    name = "slow_conv2d"

    def forward(self, x: Tensor, F: Tensor, layer: Layer) -> Tensor:
        size = [layer.R, layer.S]
        return aten._slow_conv2d_forward(x, F, size, None, *_stride_and_padding(layer))

    def _backward(self, dy: Tensor, x: Tensor, F: Tensor, layer: Layer, wanted: int) -> Tensor:
        size, mask = [layer.R, layer.S], [number == wanted for number in range(3)]
        return aten._slow_conv2d_backward(dy, x, F, size, *_stride_and_padding(layer), mask)[wanted]


class NNPACK(Algorithm):
    """NNPACK, which takes Winograd's F(6x6, 3x3) for filters of 3x3; forward alone."""

    name, keeps_buffers = "nnpack", True

    def forward(self, x: Tensor, F: Tensor, layer: Layer) -> Tensor:
        if not torch._nnpack_available():
            raise UnfitError("this PyTorch has no NNPACK, or not for this processor")
        stride, padding = _stride_and_padding(layer)
        try:
            return torch._nnpack_spatial_convolution(x, F, None, padding, stride)
        except RuntimeError as error:
            raise UnfitError(str(error).splitlines()[0]) from None

    def data_gradient(self, dy: Tensor, F: Tensor, layer: Layer) -> Tensor:
        raise UnfitError(FORWARD_ALONE)

    def filter_gradient(self, dy: Tensor, x: Tensor, layer: Layer) -> Tensor:
        raise UnfitError(FORWARD_ALONE)


class _General(_Library):
    """A library whose gradients PyTorch calls through `convolution_backward` alone."""

    backend: ClassVar[str]  # as in torch._C._ConvBackend

    def _backward(self, dy: Tensor, x: Tensor, F: Tensor, layer: Layer, wanted: int) -> Tensor:
        stride, padding = _stride_and_padding(layer)
        shape = (stride, padding, [1, 1], False, [0, 0], 1)
        chosen = torch._C._select_conv_backend(x, F, None, *shape).name
        if chosen != self.backend:
            raise UnfitError(f"PyTorch calls {chosen} for this shape")
        mask = [number == wanted for number in range(3)]
        return aten.convolution_backward(dy, x, F, None, *shape, mask)[wanted]


class OneDNN(_General):
    """Intel's oneDNN, PyTorch's default on the CPU."""

    name, backend = "onednn", "Mkldnn"

    def forward(self, x: Tensor, F: Tensor, layer: Layer) -> Tensor:
        stride, padding = _stride_and_padding(layer)
        return aten.mkldnn_convolution(x, F, None, padding, stride, [1, 1], 1)


class CuDNN(_General):
    """NVIDIA's cuDNN, which tries its algorithms at the first call and keeps the fastest."""

    name, backend = "cudnn", "Cudnn"

    def forward(self, x: Tensor, F: Tensor, layer: Layer) -> Tensor:
        stride, padding = _stride_and_padding(layer)
        # benchmark, but neither deterministic nor TF32
        return aten.cudnn_convolution(x, F, padding, stride, [1, 1], 1, True, False, False)


def _stride_and_padding(layer: Layer) -> tuple[list[int], list[int]]:
    return [layer.stride] * 2, [layer.padding] * 2
