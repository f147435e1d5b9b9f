"""The options of `compare`; imports nothing that takes time."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from eml.config import STORES, Effects, Options


@dataclass(frozen=True, kw_only=True)
class Selection(Options):
    """Which trainings are compared, by default the newest finished group, and where to copy it.

    A group is the trainings of a sweep, or all trainings of a recipe of one training.
    """

    effects: ClassVar[Effects] = ((("experiment", "recipe", "filter"), "runs", ("",)),)
    experiment: Annotated[str, "name of the experiment; else the active one"] = ""
    recipe: Annotated[str, "runs of this recipe; else of the newest finished one"] = ""
    runs: Annotated[str, "ids separated by commas; a parent run stands for its trainings"] = ""
    filter: Annotated[str, "runs that this MLflow filter selects"] = ""
    stores: Annotated[str, STORES] = ""
    output: Annotated[str, "new folder for a copy; for `mlflow run` an absolute path"] = ""
