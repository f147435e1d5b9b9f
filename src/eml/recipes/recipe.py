"""Recipe: one exercise of the course."""

from collections.abc import Callable
from dataclasses import dataclass

from eml.config import Config
from eml.recipes.options import RecipeOptions

# Names of figures (analysis/figures.py).
ONE_TRAINING = ("loss_over_epochs", "test_accuracy_over_epochs")
OVER_EPOCHS = ("test_accuracy_over_epochs",)
OVER_EPOCHS_AND_SECONDS = ("test_accuracy_over_epochs", "test_accuracy_over_train_seconds")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One exercise: its options, the trainings that follow from them, and their figures."""

    name: str  # of the entry point and of the command
    about: str  # question, what varies, what is fixed, expected result, source
    options: type[RecipeOptions]
    configs: Callable[..., list[Config]]  # from options to Configs (for the CPU)
    figures: tuple[str, ...] = ONE_TRAINING  # names
    # Whether a finished training of another command counts as done. False if times are compared,
    # because these must come from one machine in one hour.
    reuses: bool = False
    exercise: str = ""  # of the sheets, in the figures' titles; "" for the first look
    varies: str = ""  # the field of Config that is compared

    @property
    def compares_seconds(self) -> bool:
        """Whether its figures compare the training seconds of several trainings."""
        return any("seconds" in figure for figure in self.figures)
