"""A run as the store holds it, without its points."""

from dataclasses import dataclass
from functools import cached_property

from mlflow.entities import LifecycleStage, Run

from eml.config import Config, ConfigError
from eml.errors import printable
from eml.tracking.tags import CONTINUED_IN, NUMBER, PARENT

FINISHED = "FINISHED"  # MLflow's status
LONGEST_REASON = 200  # characters


@dataclass(frozen=True)
class StoredRun:
    """A run without its points. Anyone may have made the run: tags and params hold any text."""

    run_id: str
    name: str
    status: str  # MLflow's, as "FINISHED"
    start_time: int  # milliseconds since 1970
    experiment_id: str
    deleted: bool
    params: dict[str, str]
    tags: dict[str, str]
    store: str = ""  # the name of another store that holds the run; "" for the store here

    @classmethod
    def of(cls, run: Run, store: str = "") -> "StoredRun":
        """The run that the MLflow client of a store returned."""
        info, data = run.info, run.data
        return cls(
            info.run_id,
            printable(info.run_name),
            info.status,
            info.start_time,
            info.experiment_id,
            info.lifecycle_stage == LifecycleStage.DELETED,
            data.params,
            data.tags,
            store,
        )

    @cached_property
    def config(self) -> Config:
        """The Config of a training. Raises ConfigError if the run has none."""
        return Config.from_stored(self.params)

    @cached_property
    def why_no_training(self) -> str:
        """Why the run is not the training of a Config, in words; "" if it is."""
        try:
            Config.from_stored(self.params)
        except ConfigError as error:
            return printable(error, LONGEST_REASON)
        return ""

    @property
    def where(self) -> str:
        """The id, with the store if that is another one, for messages."""
        return f"{self.run_id} of {self.store}" if self.store else self.run_id

    @property
    def parent(self) -> str:
        """The id of the run that this one is nested in, or ""."""
        return self.tags.get(PARENT, "")

    @property
    def epochs(self) -> int:
        """How many the run is to train; 0 of a parent."""
        epochs = self.params.get("epochs", "")
        return int(epochs) if NUMBER.fullmatch(epochs) else 0

    @property
    def is_over(self) -> bool:
        """Whether the run is finished, or continued in another run."""
        return self.status == FINISHED or CONTINUED_IN in self.tags

    @property
    def reason(self) -> str:
        """Why the run failed or stopped, in a line."""
        failed = self.status == "FAILED"
        text = self.tags.get("error" if failed else "stopped", "").strip() or "no reason is known"
        return f"{'failed' if failed else 'stopped'}: {printable(text.splitlines()[0])}"
