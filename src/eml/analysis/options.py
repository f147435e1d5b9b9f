"""The options of `compare` and the names of figures; imports nothing that takes time."""

from dataclasses import dataclass
from typing import Annotated, Literal

from eml.config import STORES

X_LABELS = {
    "epoch": "epoch",
    "train_seconds": "training time (s)",
    "wall_seconds": "time since the data were loaded (s)",
}
ALL = "all"


def figure_name(metric: str, x: str) -> str:
    """The file name of a metric over x, without ending."""
    return f"{metric}_over_{'epochs' if x == 'epoch' else x}"


# The accuracy by which trainings are judged: after the last epoch, or the best of any epoch.
CRITERIA = ("last", "best")
Criterion = Annotated[str, "accuracy that decides: of the last epoch, or the best of any"]
PAGE = "compare.html"  # the file of page.write_page
HELD = 3  # epochs in a row that must have a target accuracy
# The names of figures in recipes; figures.FIGURES draws them.
FigureName = Literal[
    "loss_over_epochs", "test_accuracy_over_epochs", "test_accuracy_over_train_seconds"
]
ONE_TRAINING: tuple[FigureName, ...] = ("loss_over_epochs", "test_accuracy_over_epochs")
OVER_EPOCHS: tuple[FigureName, ...] = ("test_accuracy_over_epochs",)
OVER_EPOCHS_AND_SECONDS: tuple[FigureName, ...] = (
    "test_accuracy_over_epochs",
    "test_accuracy_over_train_seconds",
)


@dataclass(frozen=True)
class Subject:
    """What the runs of a report were made for; by default nothing is known."""

    exercise: str = ""  # "3.4 Optimizers", say
    varies: str = ""  # the field of Config that the exercise compares
    criterion: str = CRITERIA[0]  # curves.score
    about: str = ""  # Recipe.about


UNKNOWN = Subject()


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """Which runs of the tracking store are taken; by default the newest finished group."""

    experiment: Annotated[str, "name of the experiment; else the active one"] = ""
    recipe: Annotated[str, "runs of this recipe; else of the newest finished one"] = ""
    parent: Annotated[str, "the trainings of this parent run"] = ""
    runs: Annotated[str, "these run ids, separated by commas"] = ""
    filter: Annotated[str, "runs that this MLflow filter selects"] = ""
    stores: Annotated[str, STORES] = ""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(SelectionOptions):
    """Options of `compare`."""

    plot: Annotated[str, f"the figures of this recipe, of its newest finished runs; or {ALL}"] = ""
    x: Annotated[str, f"{', '.join(X_LABELS)} or {ALL}"] = ALL
    metric: Annotated[str, "metrics to draw, separated by commas"] = "test_accuracy,test_loss"
    target: Annotated[str, "test accuracies to reach, 0 to 1, separated by commas"] = ""
    criterion: Criterion = CRITERIA[0]
    output: Annotated[str, "new folder for a copy, with PDFs; absolute for `mlflow run`"] = ""
    strict: Annotated[bool, "refuse runs in which anything else differs"] = False
