"""Winograd's algorithm against PyTorch's convolution and against numerical derivatives."""

import pytest
import torch

from eml.models.winograd import WinogradConv2d

CNN = (64, 64, 128, 14, 14)  # batch, channels in and out, height, width: the CNN's third layer


def both(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[torch.nn.Conv2d, torch.nn.Conv2d]:
    """PyTorch's convolution in double precision, and ours in `dtype` with the same weights."""
    torch.manual_seed(3)
    _, channels_in, channels_out, *_ = shape
    reference = torch.nn.Conv2d(channels_in, channels_out, 3).double()
    ours = WinogradConv2d(channels_in, channels_out).to(dtype)
    ours.load_state_dict(reference.state_dict())
    return reference, ours


def outputs_and_gradients(layer: torch.nn.Module, shape: tuple[int, ...]) -> list[torch.Tensor]:
    """In double precision: outputs, and gradients of images, weight and bias."""
    batch, channels_in, channels_out, height, width = shape
    dtype = layer.weight.dtype
    torch.manual_seed(4)
    images = torch.randn(batch, channels_in, height, width).to(dtype).requires_grad_()
    outputs = layer(images)
    gradient = torch.randn(batch, channels_out, height - 2, width - 2).to(dtype)
    gradients = torch.autograd.grad(outputs, (images, layer.weight, layer.bias), gradient)
    return [value.detach().double() for value in (outputs, *gradients)]


@pytest.mark.parametrize("shape", [CNN, (3, 5, 7, 6, 18), (2, 1, 1, 10, 6), (1, 1, 1, 6, 6)])
def test_outputs_and_gradients_are_those_of_a_convolution(shape):
    reference, ours = both(shape, torch.float64)
    for mine, expected in zip(
        outputs_and_gradients(ours, shape), outputs_and_gradients(reference, shape), strict=True
    ):
        assert mine.shape == expected.shape
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-12 * expected.abs().max())


def test_gradients_are_the_derivatives():
    layer = WinogradConv2d(2, 3).double()
    images = torch.randn(2, 2, 6, 10, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        lambda x, w, b: torch.func.functional_call(layer, {"weight": w, "bias": b}, x),
        (images, layer.weight, layer.bias),
    )


def test_float32_is_off_by_no_more_than_rounding():
    # The largest error in units of the largest value. PyTorch's own has 1e-6 to 2e-6 here; F(4x4)
    # multiplies by up to 8 and takes differences, which costs about a digit.
    reference, ours = both(CNN, torch.float32)
    for mine, expected in zip(
        outputs_and_gradients(ours, CNN), outputs_and_gradients(reference, CNN), strict=True
    ):
        assert (mine - expected).abs().max() < 2e-5 * expected.abs().max()


def test_images_need_no_gradient():
    layer = WinogradConv2d(1, 1)
    layer(torch.randn(1, 1, 6, 6)).sum().backward()
    assert layer.weight.grad is not None


def test_any_memory_format_is_taken():
    layer, images = WinogradConv2d(3, 4), torch.randn(2, 3, 10, 10)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer(images), layer(channels_last))


@pytest.mark.parametrize(("height", "width"), [(32, 14), (14, 13)])
def test_outputs_that_are_no_whole_tiles_are_refused(height, width):
    with pytest.raises(ValueError, match="multiples of 4"):
        WinogradConv2d(3, 4)(torch.randn(1, 3, height, width))
