"""What is measured of a convolution's algorithm. Imports nothing that takes time."""

from dataclasses import dataclass

# The passes: the names of Algorithm's methods.
PASSES = ("forward", "data_gradient", "filter_gradient")
PRODUCT = "product alone"  # of the layer's matrices, the lowered one given: no convolution


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """An algorithm's pass over a batch; `seconds` is the median of the rounds."""

    algorithm: str
    pass_name: str
    batch_size: int
    timestamp: int  # milliseconds since 1970
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
