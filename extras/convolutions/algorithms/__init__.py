"""The algorithms that are measured on a device.

The symbols are the paper's: N images, C input maps of H x W, K filters of R x S. The outputs have P
rows and Q columns.
"""

from algorithms.algorithm import Algorithm
from algorithms.direct import Direct
from algorithms.fft import FFT
from algorithms.library import NNPACK, CuDNN, OneDNN, SlowConv2d
from algorithms.lowering import Explicit, Lazy
from algorithms.winograd import Winograd

ALGORITHMS: dict[str, list[Algorithm]] = {  # by torch's type of the device
    "cpu": [Direct(), Explicit(), Lazy(), FFT(), Winograd(), SlowConv2d(), NNPACK(), OneDNN()],
    "cuda": [Direct(), Explicit(), Lazy(), FFT(), Winograd(), CuDNN()],
}
