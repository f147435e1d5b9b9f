"""Each algorithm's three passes against PyTorch's convolution and its derivatives, in float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from algorithms import ALGORITHMS
from algorithms.algorithm import UnfitError
from algorithms.direct import LARGEST, Direct
from algorithms.fft import FFT
from algorithms.library import NNPACK, OneDNN, SlowConv2d
from algorithms.lowering import Explicit, Lazy
from algorithms.winograd import Winograd
from layers import CNN, DEEPBENCH, Layer
from measure import PASSES

OURS = {
    "direct": Direct(),
    "explicit": Explicit(),
    "lazy, one image": Lazy(3000),
    "lazy, one row": Lazy(1),
    "lazy": Lazy(),
    "fft": FFT(),
    "winograd": Winograd(),
}
LIBRARIES = {library.name: library for library in (SlowConv2d(), NNPACK(), OneDNN())}
LAYERS = [  # C H W K R S
    Layer("stride 1", 3, 9, 11, 5, 3, 3),
    Layer("stride 2", 3, 9, 11, 5, 3, 3, stride=2),
    Layer("even, stride 2", 2, 10, 8, 4, 3, 3, stride=2),
    Layer("one map", 1, 7, 7, 1, 3, 3),
    Layer("whole tiles", 4, 10, 6, 3, 3, 3),
    Layer("border", 2, 7, 6, 3, 3, 3, padding=1),
    Layer("border, stride 2", 2, 7, 6, 3, 3, 3, stride=2, padding=1),
    Layer("filters of 5x2", 2, 9, 8, 3, 5, 2, stride=2),
    Layer("filters of 1x1", 3, 5, 6, 4, 1, 1),
    Layer("filters as large as images", 2, 3, 3, 4, 3, 3),
]


def tensors(layer: Layer, N: int) -> dict[str, torch.Tensor]:
    """x, F and dy in float64, and the results of the passes."""
    generator = torch.Generator().manual_seed(N)
    shapes = {"x": (N, layer.C, layer.H, layer.W), "F": (layer.K, layer.C, layer.R, layer.S)}
    made = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for name, shape in shapes.items()
    }
    x, F = made.values()
    y = functional.conv2d(x, F, stride=layer.stride, padding=layer.padding)
    dy = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    dx, dF = torch.autograd.grad(y, (x, F), dy)
    results = {"forward": y, "data_gradient": dx, "filter_gradient": dF}
    return {name: tensor.detach() for name, tensor in (made | {"dy": dy} | results).items()}


def compared(algorithm, layer: Layer, N: int, dtype: torch.dtype) -> dict[str, float]:
    """The largest error of each pass, in units of the largest value."""
    exact = tensors(layer, N)
    x, F, dy = (exact[name].to(dtype) for name in ("x", "F", "dy"))
    errors = {}
    for name, inputs in zip(PASSES, ((x, F), (dy, F), (dy, x)), strict=True):
        result = getattr(algorithm, name)(*inputs, layer)
        assert result.shape == exact[name].shape
        errors[name] = float((result - exact[name]).abs().max() / exact[name].abs().max())
    return errors


@pytest.mark.parametrize("N", [1, 5])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("algorithm", OURS.values(), ids=OURS)
def test_ours_is_exact_in_double_precision(algorithm, layer, N):
    if isinstance(algorithm, Winograd) and (layer.R, layer.S, layer.stride) != (3, 3, 1):
        with pytest.raises(UnfitError, match="3x3 with stride 1"):
            compared(algorithm, layer, N, torch.float64)
        return
    assert max(compared(algorithm, layer, N, torch.float64).values()) < 1e-12


@pytest.mark.parametrize("layer", CNN, ids=lambda layer: layer.name)
def test_ours_is_off_by_rounding_in_float32(layer):
    for algorithm in OURS.values():
        if not (isinstance(algorithm, Winograd) and layer.stride == 2):
            # F(4x4) multiplies by up to 8 and takes differences, which costs about a digit.
            bound = 2e-5 if isinstance(algorithm, Winograd) else 2e-6
            assert max(compared(algorithm, layer, 3, torch.float32).values()) < bound


@pytest.mark.parametrize("N", [1, 5])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_libraries(layer, N):
    assert max(compared(LIBRARIES["slow_conv2d"], layer, N, torch.float32).values()) < 1e-5
    exact = tensors(layer, N)
    x, F, dy = (exact[name].float() for name in ("x", "F", "dy"))
    passes = [("onednn", "forward", (x, F)), ("nnpack", "forward", (x, F))]
    if N > 1 and layer.R > 1:  # for one image, or filters of 1x1, PyTorch may call another
        passes += [("onednn", "data_gradient", (dy, F)), ("onednn", "filter_gradient", (dy, x))]
    for name, pass_name, inputs in passes:
        try:
            result = getattr(LIBRARIES[name], pass_name)(*inputs, layer)
        except UnfitError:
            assert name == "nnpack"  # not on every processor
            continue
        torch.testing.assert_close(result.double(), exact[pass_name], rtol=0, atol=1e-4)


def test_nnpack_has_no_gradients():
    exact = tensors(LAYERS[0], 2)
    with pytest.raises(UnfitError, match="forward pass alone"):
        NNPACK().data_gradient(exact["dy"].float(), exact["F"].float(), LAYERS[0])


def test_a_gradient_of_another_library_is_not_taken_for_onednns(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    exact = tensors(LAYERS[0], 5)
    with pytest.raises(UnfitError, match=r"PyTorch calls .* for this shape"):
        OneDNN().data_gradient(exact["dy"].float(), exact["F"].float(), LAYERS[0])


def test_the_reference_itself_is_the_definition():
    layer = Layer("definition", 2, 5, 6, 3, 3, 2, stride=2, padding=1)
    exact = tensors(layer, 2)
    x, F = (exact[name].numpy() for name in ("x", "F"))
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.zeros((2, layer.K, layer.P, layer.Q))
    for n, k, p, q in np.ndindex(y.shape):
        for c, r, s in np.ndindex(layer.C, layer.R, layer.S):
            y[n, k, p, q] += F[k, c, r, s] * x[n, c, 2 * p + r, 2 * q + s]
    np.testing.assert_allclose(exact["forward"].numpy(), y, atol=1e-13)


def test_direct_refuses_many_images():
    x = torch.zeros(LARGEST + 1, 1, 3, 3)
    with pytest.raises(UnfitError, match=f"no more than {LARGEST}"):
        Direct().forward(x, torch.zeros(1, 1, 3, 3), LAYERS[0])


def test_the_layers_of_the_cnn():
    shapes = [(e.C, e.H, e.W, e.K, e.R, e.S, e.stride, e.P, e.Q) for e in CNN]
    assert shapes == [
        (3, 32, 32, 32, 3, 3, 1, 30, 30),
        (32, 30, 30, 64, 3, 3, 2, 14, 14),
        (64, 14, 14, 128, 3, 3, 1, 12, 12),
    ]
    # 2 * 128 * 12 * 12 * 64 * 3 * 3
    assert CNN[2].flop(10) == 10 * 21_233_664


def test_deepbenchs_layers_have_outputs_and_names_of_their_own():
    assert len({layer.name for layer in DEEPBENCH}) == len(DEEPBENCH)
    assert [(layer.P, layer.Q) for layer in DEEPBENCH[:2]] == [(79, 341), (27, 27)]


def test_names_are_different():
    for algorithms in ALGORITHMS.values():
        assert len({algorithm.name for algorithm in algorithms}) == len(algorithms)
