"""Algorithms of convolution, measured: what the cuDNN paper is about.

Question: what do they reach of the matrix product's rate, and how much memory do they take?

Varies: the algorithm, the layer, the pass (forward and both gradients) and the batch size. Fixed:
float32, random numbers, one process. Each result is compared with one in double precision first.

Expected: lazy lowering is as fast as explicit lowering, and with few input maps faster, with a
memory that does not grow with the batch. Winograd and FFT save multiplications, but pay for them in
memory, and gain only where there are many maps. About a minute on two CPU cores.

Source: sheet 2, task 2.1 (reading: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning",
2014, arXiv 1410.0759).
"""

from dataclasses import dataclass
from typing import Annotated

from eml.config import AUTO, DEVICES, ConfigError, one_of
from eml.recipes.options import numbers

NAME = "convolutions"
ABOUT = __doc__
LAYERS = ("cnn", "deepbench")
LARGEST_BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the measurement."""

    layers: Annotated[str, "cnn: those of sheet 3's CNN; deepbench: five published ones"] = "cnn"
    batch_sizes: Annotated[str, "images, separated by commas"] = "1,2,4,8,16,32,64,128,256"
    device: Annotated[str, f"one of {', '.join(DEVICES)}"] = AUTO
    output: Annotated[str, "new folder for a copy, with PDFs; absolute for `mlflow run`"] = ""

    def __post_init__(self):
        one_of("layers", self.layers, LAYERS)
        one_of("device", self.device, DEVICES)
        if not all(1 <= size <= LARGEST_BATCH for size in self.sizes):
            raise ConfigError(
                f"batch_sizes={self.batch_sizes}: give numbers from 1 to {LARGEST_BATCH}"
            )

    @property
    def sizes(self) -> list[int]:
        """The batch sizes, from small to large."""
        return sorted(numbers("batch_sizes", self.batch_sizes, int))
