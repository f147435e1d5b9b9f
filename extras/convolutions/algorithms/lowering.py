"""Convolution as a matrix product: explicit lowering (im2col), and the paper's lazy lowering.

With the filters as a matrix F (K, CRS), and a matrix D (CRS, NPQ) whose columns are the parts of
the images under a filter, the outputs are the product F D. D repeats every pixel up to RS times.
Explicit lowering stores D. Lazy lowering makes a tile of D at a time, multiplies it while it is in
the cache, and overwrites it with the next.

Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014 (arXiv 1410.0759),
section 3.1. There a tile is filled in the GPU's on-chip memory, here in a buffer.
"""

import math
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from algorithms.algorithm import Algorithm, border_of, padded, seen_by, without_border
from layers import Layer

TILE = 2**20  # bytes for each thread: in its core's second cache
SUMS = 8  # filter gradients that are summed side by side, so that threads need not wait


class Explicit(Algorithm):
    """All of D at once: a single tile."""

    name = "explicit"
    tile = math.inf  # bytes

    def forward(self, x: Tensor, F: Tensor, layer: Layer) -> Tensor:
        K, P, Q = layer.K, layer.P, layer.Q
        F = F.view(K, -1)  # (K, CRS)
        y = x.new_empty(len(x), K, P * Q)  # (N, K, PQ)
        for images, rows, D in self._lowered(x, layer):  # D: (n, CRS, pQ)
            of_each = F.expand(len(D), *F.shape)  # (n, K, CRS), a view
            torch.bmm(of_each, D, out=y[images, :, rows.start * Q : rows.stop * Q])  # (n, K, pQ)
        return y.view(-1, K, P, Q)

    def data_gradient(self, dy: Tensor, F: Tensor, layer: Layer) -> Tensor:
        C, R, S, Q = layer.C, layer.R, layer.S, layer.Q
        F = F.view(layer.K, -1).T  # (CRS, K)
        dy = dy.flatten(2)  # (N, K, PQ)
        dx = border_of(len(dy), layer, dy)  # (N, C, H, W) with the border
        for images, rows, memory in self._tiles(dy, layer):
            of_tile = dy[images, :, rows.start * Q : rows.stop * Q]  # (n, K, pQ)
            dD = memory.view(len(of_tile), C * R * S, -1)  # (n, CRS, pQ)
            torch.bmm(F.expand(len(dD), *F.shape), of_tile, out=dD)
            dD = dD.view(-1, C, R, S, rows.stop - rows.start, Q)  # (n, C, R, S, p, Q)
            for r, s in product(range(R), range(S)):
                seen_by(dx[images], r, s, layer)[:, :, rows].add_(dD[:, :, r, s])  # (n, C, p, Q)
        return without_border(dx, layer)

    def filter_gradient(self, dy: Tensor, x: Tensor, layer: Layer) -> Tensor:
        K, Q = layer.K, layer.Q
        dy = dy.flatten(2)  # (N, K, PQ)
        dFs = x.new_zeros(SUMS, K, layer.C * layer.R * layer.S)  # parts of the sum over all images
        for images, rows, D in self._lowered(x, layer):  # D: (n, CRS, pQ)
            of_tile = dy[images, :, rows.start * Q : rows.stop * Q]  # (n, K, pQ)
            for few, of_few in zip(D.split(SUMS), of_tile.split(SUMS), strict=True):
                dFs[: len(few)].baddbmm_(of_few, few.transpose(1, 2))  # (SUMS, K, CRS)
        return dFs.sum(dim=0).view(K, layer.C, layer.R, layer.S)

    def _lowered(self, x: Tensor, layer: Layer) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yields (images, output rows, part of D (n, CRS, pQ)) for each tile."""
        for images, rows, memory in self._tiles(x, layer):
            windows = padded(x[images], layer)  # (n, C, H, W) with the border
            windows = windows.unfold(2, layer.R, layer.stride)  # (n, C, P, W, R)
            windows = windows.unfold(3, layer.S, layer.stride)  # (n, C, P, Q, R, S)
            windows = windows[:, :, rows].permute(0, 1, 4, 5, 2, 3)  # (n, C, R, S, p, Q), a view
            memory.view(windows.shape).copy_(windows)
            yield images, rows, memory.view(len(windows), layer.C * layer.R * layer.S, -1)

    def _tiles(self, like: Tensor, layer: Layer) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yields (images, output rows, memory (n * CRS * pQ,) for the part of D) for each tile.

        A tile holds several images, or some rows of one. All take the same memory in turn.
        like: a tensor of all N images.
        """
        N = len(like)
        of_row = layer.C * layer.R * layer.S * layer.Q  # numbers of D for a row of outputs
        numbers = self.tile / like.element_size()
        n = int(min(N, max(1, numbers / (layer.P * of_row))))
        p = int(min(layer.P, max(1, numbers / of_row)))
        threads = torch.get_num_threads()
        if threads < n < N:
            n -= n % threads  # as many images for each thread
        memory = like.new_empty(n * p * of_row)
        for image in range(0, N, n):
            for row in range(0, layer.P, p):
                images, rows = slice(image, min(image + n, N)), slice(row, min(row + p, layer.P))
                used = (images.stop - images.start) * (rows.stop - rows.start) * of_row
                yield images, rows, memory[:used]


class Lazy(Explicit):
    """A tile of D at a time, made just before it is multiplied."""

    name = "lazy"

    def __init__(self, tile: int = 0):
        """tile: bytes; 0 takes TILE for each of PyTorch's threads."""
        self.tile = tile or TILE * torch.get_num_threads()
