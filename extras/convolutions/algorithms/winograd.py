"""A 3x3 convolution by Winograd's minimal filtering, F(4x4, 3x3).

An output tile of 4x4 from an input tile of 6x6 takes 36 multiplications for each pair of channels
instead of 144. With d the input tile, g the filter and * the product element by element, it is

    y = A^T [(G g G^T) * (B^T d B)] A

The products are summed over the input channels, so for each of the 36 positions in a tile they
are one matrix product over all tiles. Every step is linear, so the gradients are the transposed
steps in the opposite order.

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015
(arXiv 1509.09308), section 4.3.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from algorithms.algorithm import Algorithm, UnfitError, without_border
from layers import Layer

Matrix = tuple[tuple[float, ...], ...]
OUTPUT, INPUT, FILTER = 4, 6, 3  # the widths of the tiles and of the filter
INPUT_TRANSFORM = (  # B^T
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
FILTER_TRANSFORM = (  # G
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT_TRANSFORM = (  # A^T
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class Winograd(Algorithm):
    """Filters of 3x3 with stride 1. Images are copied to channels_last, and so are the results."""

    name = "winograd"

    # In the shape comments, `tiles` counts all tiles of the batch: tiles_y * tiles_x of each image.
    def forward(self, x: Tensor, F: Tensor, layer: Layer) -> Tensor:
        inputs = _inputs(x, layer)  # (36, tiles, C)
        weights = _weights(F)  # (36, C, K)
        products = inputs @ weights  # (36, tiles, K)
        products = products.view(INPUT**2, -1)  # (36, tiles * K)
        tiles = _both(OUTPUT_TRANSFORM, x) @ products  # (16, tiles * K)
        y = _channels_last(x, len(x), layer.K, *_whole(layer))
        places = _tiles(y, OUTPUT)  # (4, 4, N, tiles_y, tiles_x, K)
        places.copy_(tiles.view(places.shape))
        return y[:, :, : layer.P, : layer.Q]

    def data_gradient(self, dy: Tensor, F: Tensor, layer: Layer) -> Tensor:
        products = _outputs(dy, layer)  # (36, tiles, K)
        weights = _weights(F)  # (36, C, K)
        inputs = products @ weights.transpose(1, 2)  # (36, tiles, C)
        inputs = inputs.view(INPUT**2, -1)  # (36, tiles * C)
        tiles = _both(INPUT_TRANSFORM, dy).T @ inputs  # (36, tiles * C)
        rows, columns = _whole(layer)
        dx = _overlapping_sum(tiles, len(dy), layer.C, rows + FILTER - 1, columns + FILTER - 1)
        return without_border(dx, layer)

    def filter_gradient(self, dy: Tensor, x: Tensor, layer: Layer) -> Tensor:
        inputs = _inputs(x, layer)  # (36, tiles, C)
        products = _outputs(dy, layer)  # (36, tiles, K)
        weights = inputs.transpose(1, 2) @ products  # (36, C, K)
        weights = weights.view(INPUT**2, -1)  # (36, C * K)
        dF = _both(FILTER_TRANSFORM, dy).T @ weights  # (9, C * K)
        return dF.view(FILTER, FILTER, layer.C, layer.K).permute(3, 2, 0, 1)


def _inputs(x: Tensor, layer: Layer) -> Tensor:
    """The transformed input tiles, (36, tiles, C). Raises UnfitError for another shape."""
    rows, columns = _whole(layer)
    border = layer.padding
    right, below = columns - layer.Q, rows - layer.P
    x = functional.pad(x, (border, border + right, border, border + below))
    x = x.contiguous(memory_format=torch.channels_last)
    inputs = _tiles(x, INPUT).reshape(INPUT**2, -1)  # (36, tiles * C)
    inputs = _both(INPUT_TRANSFORM, x) @ inputs  # (36, tiles * C)
    return inputs.view(INPUT**2, -1, layer.C)


def _weights(F: Tensor) -> Tensor:
    """The transformed filters, (36, C, K)."""
    K, C, _, _ = F.shape
    weights = F.permute(2, 3, 1, 0).reshape(FILTER**2, -1)  # (9, C * K)
    weights = _both(FILTER_TRANSFORM, F) @ weights  # (36, C * K)
    return weights.view(INPUT**2, C, K)


def _outputs(dy: Tensor, layer: Layer) -> Tensor:
    """The transposed output transform of dy, (36, tiles, K). Raises UnfitError as _inputs does."""
    rows, columns = _whole(layer)
    dy = functional.pad(dy, (0, columns - layer.Q, 0, rows - layer.P))
    dy = dy.contiguous(memory_format=torch.channels_last)
    tiles = _tiles(dy, OUTPUT).reshape(OUTPUT**2, -1)  # (16, tiles * K)
    products = _both(OUTPUT_TRANSFORM, dy).T @ tiles  # (36, tiles * K)
    return products.view(INPUT**2, -1, layer.K)


def _whole(layer: Layer) -> tuple[int, int]:
    """Rows and columns of the outputs in whole tiles. Raises UnfitError for other filters."""
    if (layer.R, layer.S, layer.stride) != (FILTER, FILTER, 1):
        raise UnfitError("F(4x4, 3x3) is for filters of 3x3 with stride 1")
    return -(-layer.P // OUTPUT) * OUTPUT, -(-layer.Q // OUTPUT) * OUTPUT


def _channels_last(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _both(transform: Matrix, like: Tensor) -> Tensor:
    """The matrix that transforms a flattened tile along both sides at once."""
    return _squared(transform, like.dtype, like.device)  # (rows**2, columns**2)


@cache
def _squared(transform: Matrix, dtype: torch.dtype, device: torch.device) -> Tensor:
    matrix = torch.tensor(transform, dtype=torch.float64)
    return torch.kron(matrix, matrix).to(device, dtype)


def _tiles(images: Tensor, width: int) -> Tensor:
    """A view of the tiles of width x width that begin at every 4th row and column.

    images: (batch, channels, height, width), channels_last. Returns (width, width, batch, tiles_y,
    tiles_x, channels).
    """
    batch, channels, height, columns = images.shape
    of_batch, of_channel, of_row, of_column = images.stride()
    tiles_y, tiles_x = (height - width) // OUTPUT + 1, (columns - width) // OUTPUT + 1
    return images.as_strided(
        (width, width, batch, tiles_y, tiles_x, channels),
        (of_row, of_column, of_batch, OUTPUT * of_row, OUTPUT * of_column, of_channel),
    )


def _overlapping_sum(tiles: Tensor, N: int, C: int, height: int, width: int) -> Tensor:
    """The transpose of taking 6x6 tiles: images in which overlapping tiles are added.

    tiles: (36, tiles * C). Returns (N, C, height, width), channels_last.
    """
    images = _channels_last(tiles, N, C, height, width).zero_()
    shape = _tiles(images, INPUT).shape
    tiles = tiles.view(shape)  # (6, 6, batch, tiles_y, tiles_x, channels)
    # Tiles of 4x4 lie side by side; add the two further rows and columns.
    inner = images[:, :, : 1 - FILTER, : 1 - FILTER]
    _tiles(inner, OUTPUT).copy_(tiles[:OUTPUT, :OUTPUT])
    _, _, _, tiles_y, tiles_x, _ = shape
    for row in range(INPUT):
        for column in range(INPUT):
            if row >= OUTPUT or column >= OUTPUT:
                places = images[:, :, row::OUTPUT, column::OUTPUT][:, :, :tiles_y, :tiles_x]
                places.permute(0, 2, 3, 1).add_(tiles[row, column])
    return images
