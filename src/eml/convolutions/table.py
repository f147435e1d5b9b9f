"""The algorithms that are measured on a device."""

from eml.convolutions.algorithm import Algorithm
from eml.convolutions.direct import Direct
from eml.convolutions.fft import FFT
from eml.convolutions.library import NNPACK, CuDNN, OneDNN, SlowConv2d
from eml.convolutions.lowering import Explicit, Lazy
from eml.convolutions.winograd import Winograd

ALGORITHMS: dict[str, list[Algorithm]] = {  # by torch's type of the device
    "cpu": [Direct(), Explicit(), Lazy(), FFT(), Winograd(), SlowConv2d(), NNPACK(), OneDNN()],
    "cuda": [Direct(), Explicit(), Lazy(), FFT(), Winograd(), CuDNN()],
}
