"""The direct convolution: the definition, one element of the filters after the other."""

from itertools import product

import torch
from torch import Tensor

from algorithms.algorithm import (
    Algorithm,
    UnfitError,
    border_of,
    padded,
    seen_by,
    without_border,
)
from layers import Layer

LARGEST = 32  # images: more take long, and show no more


class Direct(Algorithm):
    """For reference: adds product after product to the result, which is read again each time."""

    name = "direct"

    def forward(self, x: Tensor, F: Tensor, layer: Layer) -> Tensor:
        _refuse_many(x)
        K, C, R, S = F.shape
        x = padded(x, layer)
        y = x.new_zeros(len(x), K, layer.P, layer.Q)
        for r, s in product(range(R), range(S)):
            seen = seen_by(x, r, s, layer)  # (N, C, P, Q)
            for c in range(C):
                # (N, 1, P, Q) * (K, 1, 1) into (N, K, P, Q)
                y.addcmul_(seen[:, c : c + 1], F[:, c, r, s, None, None])
        return y

    def data_gradient(self, dy: Tensor, F: Tensor, layer: Layer) -> Tensor:
        _refuse_many(dy)
        K, _, R, S = F.shape
        dx = border_of(len(dy), layer, dy)
        for r, s in product(range(R), range(S)):
            seen = seen_by(dx, r, s, layer)  # (N, C, P, Q)
            for k in range(K):
                # (N, 1, P, Q) * (C, 1, 1) into (N, C, P, Q)
                seen.addcmul_(dy[:, k : k + 1], F[k, :, r, s, None, None])
        return without_border(dx, layer)

    def filter_gradient(self, dy: Tensor, x: Tensor, layer: Layer) -> Tensor:
        _refuse_many(x)
        x = padded(x, layer)
        dF = x.new_empty(layer.K, layer.C, layer.R, layer.S)
        products = torch.empty_like(dy)  # (N, K, P, Q)
        for r, s in product(range(layer.R), range(layer.S)):
            seen = seen_by(x, r, s, layer)  # (N, C, P, Q)
            for c in range(layer.C):
                torch.mul(dy, seen[:, c : c + 1], out=products)  # (N, K, P, Q)
                dF[:, c, r, s] = products.sum(dim=(0, 2, 3))  # (K,)
        return dF


def _refuse_many(images: Tensor) -> None:
    if len(images) > LARGEST:
        raise UnfitError(f"for reference it gets no more than {LARGEST} images")
