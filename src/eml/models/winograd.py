"""A 3x3 convolution by Winograd's minimal filtering, on some CPUs faster than PyTorch's own.

An output tile of 4x4 from an input tile of 6x6 takes 36 multiplications for each pair of channels
instead of 144. With d the input tile, g the filter and * the product element by element, it is

    y = A^T [(G g G^T) * (B^T d B)] A

with the matrices of F(4x4, 3x3). The products are summed over the input channels, so for each of
the 36 positions in a tile they are one matrix product over all tiles. Every step is linear, so the
gradients are the transposed steps in the opposite order.

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015
(arXiv 1509.09308), section 4.3.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

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


class WinogradConv2d(nn.Conv2d):
    """nn.Conv2d with 3x3 filters, stride 1 and no padding, computed by Winograd's algorithm.

    Height and width of the outputs must be multiples of 4. Returns its outputs in the memory format
    channels_last, which is also the fastest for inputs. Equal to nn.Conv2d except for rounding; not
    differentiable twice.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=FILTER)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, in_channels, height, width) to (batch, out_channels, height - 2, width - 2).

        Raises ValueError if height - 2 or width - 2 is not a multiple of 4.
        """
        return _Convolution.apply(images, self.weight, self.bias)


# In the shape comments, `tiles` counts all tiles of the batch: tiles_y * tiles_x of each image.
class _Convolution(Function):
    @staticmethod
    def forward(ctx, images: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
        batch, in_channels, height, width = images.shape
        out_channels = len(filters)
        height, width = height - FILTER + 1, width - FILTER + 1
        if height % OUTPUT or width % OUTPUT:
            raise ValueError(
                f"outputs of {height}x{width}: give images whose outputs are multiples of {OUTPUT}"
            )
        images = images.contiguous(memory_format=torch.channels_last)
        inputs = _tiles(images, INPUT).reshape(INPUT**2, -1)  # (36, tiles * in_channels)
        inputs = _both(INPUT_TRANSFORM, images) @ inputs  # (36, tiles * in_channels)
        inputs = inputs.view(INPUT**2, -1, in_channels)  # (36, tiles, in_channels)
        weights = filters.permute(2, 3, 1, 0).reshape(FILTER**2, -1)  # (9, in * out)
        weights = _both(FILTER_TRANSFORM, images) @ weights  # (36, in * out)
        weights = weights.view(INPUT**2, in_channels, out_channels)  # (36, in, out)
        products = inputs @ weights  # (36, tiles, out_channels)
        products = products.view(INPUT**2, -1)  # (36, tiles * out_channels)
        tiles = _both(OUTPUT_TRANSFORM, images) @ products  # (16, tiles * out_channels)
        outputs = torch.empty(
            (batch, out_channels, height, width),
            dtype=images.dtype,
            device=images.device,
            memory_format=torch.channels_last,
        )
        places = _tiles(outputs, OUTPUT)  # (4, 4, batch, tiles_y, tiles_x, out_channels)
        places.copy_(tiles.view(places.shape))
        outputs += bias[:, None, None]  # (batch, out_channels, height, width)
        ctx.save_for_backward(inputs, weights)
        ctx.shape = images.shape
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """The gradients of images, filters and bias from that of the outputs."""
        inputs, weights = ctx.saved_tensors  # (36, tiles, in_channels), (36, in, out)
        _, in_channels, out_channels = weights.shape
        of_bias = gradient.sum(dim=(0, 2, 3))  # (out_channels,)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        tiles = _tiles(gradient, OUTPUT).reshape(OUTPUT**2, -1)  # (16, tiles * out_channels)
        products = _both(OUTPUT_TRANSFORM, gradient).T @ tiles  # (36, tiles * out_channels)
        products = products.view(INPUT**2, -1, out_channels)  # (36, tiles, out_channels)
        of_weights = inputs.transpose(1, 2) @ products  # (36, in, out)
        of_weights = of_weights.view(INPUT**2, -1)  # (36, in * out)
        of_filters = _both(FILTER_TRANSFORM, gradient).T @ of_weights  # (9, in * out)
        of_filters = of_filters.view(FILTER, FILTER, in_channels, out_channels)
        of_images = None
        if ctx.needs_input_grad[0]:
            of_inputs = products @ weights.transpose(1, 2)  # (36, tiles, in_channels)
            of_inputs = of_inputs.view(INPUT**2, -1)  # (36, tiles * in_channels)
            of_inputs = _both(INPUT_TRANSFORM, gradient).T @ of_inputs
            of_images = _overlapping_sum(of_inputs, ctx.shape)
        return of_images, of_filters.permute(3, 2, 0, 1), of_bias


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


def _overlapping_sum(tiles: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of taking 6x6 tiles: images in which overlapping tiles are added.

    tiles: (36, tiles * channels). shape: of the result, which is channels_last.
    """
    batch, channels, height, width = shape
    images = tiles.new_zeros(batch, height, width, channels).permute(0, 3, 1, 2)
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
