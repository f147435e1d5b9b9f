"""The words of labels. Imports nothing that takes time."""

from collections.abc import Mapping
from typing import Any

from eml.data.specs import SPECS
from eml.models.optimizers import OPTIMIZERS

WORDS = {
    "dataset": {name: spec.title for name, spec in SPECS.items()},
    "device_type": {"cpu": "CPU", "cuda": "GPU"},
    "framework": {"numpy": "NumPy", "torch": "PyTorch"},
    "model": {"mlp": "MLP", "cnn": "CNN"},
    "optimizer": {name: row.title for name, row in OPTIMIZERS.items()},
    "precision": {"fp32": "FP32", "tf32": "TF32", "bf16": "BF16"},
}
X_LABELS = {
    "epoch": "epoch",
    "train_seconds": "training time (s)",
    "wall_seconds": "time since the data were loaded (s)",
}
# The accuracy by which trainings are judged: after the last epoch, unless they are of a search.
LAST = "last"
MEDIAN = "median"  # of the last half of the epochs: of a search alone
CRITERIA = {LAST: "final", "best": "best", MEDIAN: "median"}


def acts(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a parameter has an effect on a training with these parameters."""
    return name != "momentum" or values["optimizer"] == "momentum"


def in_digits(value: float) -> str:
    """A number as people write it: 0.0123, 4.56, 1,170."""
    return f"{value:,.0f}" if 100 <= value < 1e6 else f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """ "1 epoch", "2 epochs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def words(name: str, value: Any) -> str:
    """A parameter and its value in the words of a figure: "learning rate 0.1", "MNIST"."""
    if name == "subset":
        return f"subset of {value} images" if value else "all images"
    if name == "validation":
        return f"{value} of them held out"
    if name == "code_sha256":
        return f"own code {value[:6]}" if value else "eml's code"
    if name in WORDS:
        return str(WORDS[name].get(value, value))
    text = f"{value:g}" if isinstance(value, float) else value
    return f"{name.replace('_', ' ')} {text}"
