"""Measures algorithms on a layer: all in turn, so that a slow moment of the machine hits all."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from algorithms.algorithm import Algorithm, UnfitError
from layers import Layer
from memory import extra_bytes

# The passes: the names of Algorithm's methods.
PASSES = ("forward", "data_gradient", "filter_gradient")
PRODUCT = "product alone"  # of the layer's matrices, the lowered one given: no convolution
ROUNDS, FEWEST_ROUNDS = 7, 3  # in each, every call is timed once
BUDGET = 3.0  # seconds for the rounds of a batch size; then the fewest rounds suffice
SHORTEST = 2e-3  # seconds of a timing; a faster call is repeated
LONGEST = 0.5  # seconds; an algorithm whose call would take longer gets no larger batches
LARGEST_ERROR = 1e-3  # of float32 results, relative to the largest value
SQUARE = 1024  # rows and columns of the matrices of the machine's own rate
Call = Callable[[], Tensor]


class WrongResultError(click.ClickException):
    """An algorithm's result differs from the reference's by more than rounding."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """An algorithm's pass over a batch; `seconds` is the median of the rounds."""

    algorithm: str
    pass_name: str
    batch_size: int
    seconds: float
    seconds_low: float  # first quartile of the rounds
    seconds_high: float  # third quartile
    gflop_per_second: float  # with the direct algorithm's operations, whatever is computed
    share_of_gemm: float  # the rate divided by that of a square matrix product, round by round
    extra_bytes: float  # allocated at the peak, besides inputs and result; NaN if unknown
    error: float  # the largest, divided by the reference's largest value; NaN for PRODUCT


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A pass that an algorithm was not measured on."""

    algorithm: str
    pass_name: str
    batch_size: int
    why: str


@dataclass(frozen=True)
class Trial:
    """A call to be timed."""

    algorithm: str
    pass_name: str
    call: Call
    error: float = math.nan  # as in Measurement
    counts_memory: bool = False


def measure(
    layer: Layer, batch_sizes: Sequence[int], algorithms: Sequence[Algorithm], device: torch.device
) -> Iterator[Measurement | LeftOut]:
    """Measure each algorithm and pass for each batch size, from the smallest to the largest.

    Before it is timed, each result is compared with the one of PyTorch in double precision. Raises
    WrongResultError.
    """
    seconds_per_image: dict[tuple[str, str], float] = {}
    gemm = Trial("gemm", "", _square(device))
    for N in sorted(batch_sizes):
        trials = []
        for trial in _checked(layer, N, algorithms, seconds_per_image, device):
            if isinstance(trial, LeftOut):
                yield trial
            else:
                trials.append(trial)
        *taken, of_gemm = _in_turn([*trials, gemm], device)  # (rounds,) seconds each
        gemm_rate = 2 * SQUARE**3 / of_gemm / 1e9
        for trial, seconds in zip(trials, taken, strict=True):
            rate = layer.flop(N) / seconds / 1e9
            low, median, high = map(float, np.quantile(seconds, (0.25, 0.5, 0.75)))
            seconds_per_image[trial.algorithm, trial.pass_name] = median / N
            yield Measurement(
                algorithm=trial.algorithm,
                pass_name=trial.pass_name,
                batch_size=N,
                seconds=median,
                seconds_low=low,
                seconds_high=high,
                gflop_per_second=float(np.median(rate)),
                share_of_gemm=float(np.median(rate / gemm_rate)),
                extra_bytes=extra_bytes(trial.call, device) if trial.counts_memory else math.nan,
                error=trial.error,
            )


def _checked(
    layer: Layer,
    N: int,
    algorithms: Sequence[Algorithm],
    seconds_per_image: Mapping[tuple[str, str], float],
    device: torch.device,
) -> Iterator[Trial | LeftOut]:
    """The calls of a batch, each after a first one with the right result."""
    x, F, dy = _tensors(layer, N, device)
    inputs = ((x, F), (dy, F), (dy, x))
    references = _reference(x, F, dy, layer)
    for algorithm in algorithms:
        for name, arguments, expected in zip(PASSES, inputs, references, strict=True):
            call = partial(getattr(algorithm, name), *arguments, layer)
            try:
                seconds = N * seconds_per_image.get((algorithm.name, name), 0)
                if seconds > LONGEST:
                    raise UnfitError(f"a call would take {seconds:.1f} s")
                error = _error(call(), expected, f"{algorithm.name}, {name}, {layer.name}, N={N}")
                yield Trial(algorithm.name, name, call, error, not algorithm.keeps_buffers)
            except UnfitError as why:
                yield LeftOut(algorithm=algorithm.name, pass_name=name, batch_size=N, why=str(why))
    yield from _products(F, dy, layer)


def _tensors(layer: Layer, N: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, C, H, W), F (K, C, R, S) and dy (N, K, P, Q): standard normal, the same each time."""
    generator = torch.Generator().manual_seed(1)
    shapes = (
        (N, layer.C, layer.H, layer.W),
        (layer.K, layer.C, layer.R, layer.S),
        (N, layer.K, layer.P, layer.Q),
    )
    x, F, dy = (torch.randn(shape, generator=generator).to(device) for shape in shapes)
    return x, F, dy


def _reference(x: Tensor, F: Tensor, dy: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """y, dx and dF by PyTorch's own convolution and its derivatives, in double precision."""
    x, F = x.double().requires_grad_(), F.double().requires_grad_()
    y = functional.conv2d(x, F, stride=layer.stride, padding=layer.padding)
    dx, dF = torch.autograd.grad(y, (x, F), dy.double())
    return y.detach(), dx, dF


def _error(result: Tensor, expected: Tensor, what: str) -> float:
    assert result.shape == expected.shape, f"{what}: {result.shape}, not {expected.shape}"
    error = float((result - expected).abs().max() / expected.abs().max())
    if not error <= LARGEST_ERROR:  # NaN is an error too
        raise WrongResultError(
            f"{what} differs from the reference by {error:.1g} of the largest value: not measured"
        )
    return error


def _products(F: Tensor, dy: Tensor, layer: Layer) -> Iterator[Trial]:
    """The matrix products of a layer's three passes, with a lowered matrix (CRS, NPQ) given."""
    F = F.flatten(1)  # (K, CRS)
    dy = dy.transpose(0, 1).flatten(1)  # (K, NPQ)
    D = torch.randn(F.shape[1], dy.shape[1], device=F.device)  # (CRS, NPQ)
    for name, (a, b) in zip(PASSES, ((F, D), (F.T, dy), (dy, D.T)), strict=True):
        yield Trial(PRODUCT, name, partial(torch.mm, a, b))


def _square(device: torch.device) -> Call:
    return partial(torch.mm, *torch.randn(2, SQUARE, SQUARE, device=device))


def _in_turn(trials: Sequence[Trial], device: torch.device) -> np.ndarray:
    """The seconds of each call in each round, (trials, rounds)."""
    repeats = [int(1 + SHORTEST / _timed(trial.call, 1, device)) for trial in trials]
    rounds: list[list[float]] = []
    start = perf_counter()
    while len(rounds) < ROUNDS:
        if len(rounds) >= FEWEST_ROUNDS and perf_counter() - start > BUDGET:
            break
        rounds.append(
            [_timed(trial.call, n, device) for trial, n in zip(trials, repeats, strict=True)]
        )
    return np.array(rounds).T


def _timed(call: Call, repeats: int, device: torch.device) -> float:
    """Seconds of a call, the mean of `repeats`."""
    _synchronize(device)
    start = perf_counter()
    for _ in range(repeats):
        call()
    _synchronize(device)
    return (perf_counter() - start) / repeats


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
