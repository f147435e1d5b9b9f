"""Convolution by the Fourier transform: products of frequencies in place of sums over filters.

A cross-correlation becomes a product with the complex conjugate. The transform's period is the
padded image: indices that wrap around reach only outputs that are not used.

Source: M. Mathieu, M. Henaff and Y. LeCun, "Fast Training of Convolutional Networks through FFTs",
2013 (arXiv 1312.5851).
"""

import torch
from torch import Tensor

from algorithms.algorithm import Algorithm, padded, without_border
from layers import Layer


class FFT(Algorithm):
    """All of images, filters and outputs in frequencies at once. A stride saves no work."""

    name = "fft"

    def forward(self, x: Tensor, F: Tensor, layer: Layer) -> Tensor:
        x, size, u = padded(x, layer), _size(layer), layer.stride
        xs, Fs = _frequencies(x, size), _frequencies(F, size)  # (f, N, C), (f, K, C)
        y = _signal(xs @ Fs.mH, size)  # (N, K, H, W), of stride 1; mH: conjugate, (f, C, K)
        return y[:, :, : u * layer.P : u, : u * layer.Q : u]

    def data_gradient(self, dy: Tensor, F: Tensor, layer: Layer) -> Tensor:
        size = _size(layer)
        dys, Fs = _frequencies(_spread(dy, layer), size), _frequencies(F, size)
        return without_border(_signal(dys @ Fs, size), layer)  # (f, N, K) @ (f, K, C)

    def filter_gradient(self, dy: Tensor, x: Tensor, layer: Layer) -> Tensor:
        x, size = padded(x, layer), _size(layer)
        xs, dys = _frequencies(x, size), _frequencies(_spread(dy, layer), size)
        dF = _signal(dys.mH @ xs, size)  # (f, K, N) @ (f, N, C) to (K, C, H, W)
        return dF[:, :, : layer.R, : layer.S]


def _size(layer: Layer) -> tuple[int, int]:
    return layer.H + 2 * layer.padding, layer.W + 2 * layer.padding


def _spread(dy: Tensor, layer: Layer) -> Tensor:
    """dy as that of stride 1: zeros between its rows and columns."""
    if layer.stride == 1:
        return dy
    N, K, P, Q = dy.shape
    spread = dy.new_zeros(N, K, (P - 1) * layer.stride + 1, (Q - 1) * layer.stride + 1)
    spread[:, :, :: layer.stride, :: layer.stride] = dy
    return spread


def _frequencies(signal: Tensor, size: tuple[int, int]) -> Tensor:
    """(a, b, height, width), extended by zeros to `size`, to its f frequencies (f, a, b)."""
    return torch.fft.rfft2(signal, s=size).flatten(2).permute(2, 0, 1).contiguous()


def _signal(frequencies: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of _frequencies: (f, a, b) to (a, b, *size)."""
    _, a, b = frequencies.shape
    folded = frequencies.permute(1, 2, 0).view(a, b, size[0], size[1] // 2 + 1)
    return torch.fft.irfft2(folded, s=size)
