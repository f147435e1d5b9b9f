"""What is measured of a convolution: numbers that fit together, memory, what is left out."""

import math
import sys
from functools import partial

import numpy as np
import pytest
import torch

import measure as module
from algorithms import ALGORITHMS
from algorithms.lowering import Explicit, Lazy
from layers import CNN, Layer
from measure import PASSES, PRODUCT, LeftOut, Measurement, WrongResultError, measure
from memory import extra_bytes

CPU = torch.device("cpu")
MIB = 2**20
SMALL = Layer("small", 2, 9, 8, 3, 3, 3)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is Linux's")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", 2)
    monkeypatch.setattr(module, "SHORTEST", 0.0)


def test_every_algorithm_and_pass_is_measured_or_left_out_for_a_reason():
    found = list(measure(SMALL, [3, 1], ALGORITHMS["cpu"], CPU))
    measured = {(m.algorithm, m.pass_name, m.batch_size) for m in found if type(m) is Measurement}
    left_out = {
        (m.algorithm, m.pass_name, m.batch_size): m.why for m in found if m.__class__ is LeftOut
    }
    names = [*(algorithm.name for algorithm in ALGORITHMS["cpu"]), PRODUCT]
    assert measured | left_out.keys() == {(a, p, N) for a in names for p in PASSES for N in (1, 3)}
    assert measured.isdisjoint(left_out)
    assert {name for name, _, _ in left_out} <= {"nnpack", "onednn"}
    assert all(left_out.values())
    sizes = [each.batch_size for each in found]
    assert sizes == sorted(sizes)


def test_the_numbers_of_a_measurement_follow_from_the_seconds(monkeypatch):
    seconds = np.array([1.0, 2.0, 4.0])  # of each call, in three rounds
    gemm = np.array([0.5, 0.5, 0.5])
    monkeypatch.setattr(
        module, "_in_turn", lambda trials, _: np.array([seconds] * (len(trials) - 1) + [gemm])
    )
    gflop = SMALL.flop(4) / 1e9
    gemm_rate = 2 * module.SQUARE**3 / 1e9 / 0.5
    found = list(measure(SMALL, [4], [Explicit()], CPU))
    assert len(found) == 6
    for each in found:
        assert (each.seconds_low, each.seconds, each.seconds_high) == (1.5, 2.0, 3.0)
        assert each.gflop_per_second == pytest.approx(gflop / 2)
        assert each.share_of_gemm == pytest.approx(gflop / 2 / gemm_rate)
        assert math.isnan(each.error) is (each.algorithm == PRODUCT)
        assert each.algorithm == PRODUCT or each.error < 1e-5


@pytest.mark.parametrize("pass_name", PASSES)
def test_a_wrong_result_is_refused_before_it_is_timed(pass_name, monkeypatch):
    right = getattr(Explicit, pass_name)

    def wrong(self, a, b, layer):
        result = right(self, a, b, layer)
        result[0, 0, 0, 0] += 0.01 * result.abs().max()
        return result

    monkeypatch.setattr(Explicit, pass_name, wrong)
    monkeypatch.setattr(module, "_in_turn", lambda *_: pytest.fail("timed"))
    with pytest.raises(
        WrongResultError, match=rf"explicit, {pass_name}, small, N=2 differs .* 0.01"
    ):
        list(measure(SMALL, [2], [Explicit()], CPU))


def test_a_result_of_nan_is_refused(monkeypatch):
    monkeypatch.setattr(
        Explicit, "forward", lambda self, x, F, layer: torch.full((2, 3, 7, 6), math.nan)
    )
    with pytest.raises(WrongResultError):
        list(measure(SMALL, [2], [Explicit()], CPU))


def test_a_slow_algorithm_gets_no_larger_batches(monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 0.0)
    found = [m for m in measure(SMALL, [1, 2, 4], [Explicit()], CPU) if m.algorithm != PRODUCT]
    assert [m.batch_size for m in found if isinstance(m, Measurement)] == [1, 1, 1]
    assert {m.why for m in found if isinstance(m, LeftOut)} == {"a call would take 0.0 s"}


@needs_linux
def test_memory_is_what_a_call_allocates_besides_its_result():
    def call() -> torch.Tensor:
        held = torch.ones(32 * MIB, dtype=torch.uint8)
        return held[: 16 * MIB] + 1

    call()
    assert extra_bytes(call, CPU) == pytest.approx(32 * MIB, abs=MIB)
    assert extra_bytes(lambda: torch.ones(16 * MIB, dtype=torch.uint8), CPU) < MIB


@needs_linux
@pytest.mark.parametrize("layer", CNN, ids=lambda layer: layer.name)
def test_the_lowered_matrix_is_not_stored_by_lazy_lowering(layer):
    N = 256
    x, F = torch.randn(N, layer.C, layer.H, layer.W), torch.randn(layer.K, layer.C, 3, 3)
    extra = {}
    for algorithm in (Explicit(), Lazy()):
        call = partial(algorithm.forward, x, F, layer)
        call()
        extra[algorithm.name] = extra_bytes(call, CPU)
    matrix = 4 * N * layer.P * layer.Q * layer.C * layer.R * layer.S
    assert extra["explicit"] == pytest.approx(matrix, rel=0.02)
    assert extra["lazy"] < extra["explicit"] / 10
