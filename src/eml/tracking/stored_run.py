"""A run as the store holds it, without its points."""

from typing import NamedTuple

from mlflow.entities import LifecycleStage, Run

from eml.text import printable
from eml.tracking.tags import CONTINUED_IN, NUMBER, PARENT


class StoredRun(NamedTuple):
    """A run without its points. Anyone may have made the run: tags and params hold any text."""

    run_id: str
    name: str
    status: str  # MLflow's, as "FINISHED"
    start_time: int  # milliseconds since 1970
    experiment_id: str
    deleted: bool
    params: dict[str, str]
    tags: dict[str, str]

    @classmethod
    def of(cls, run: Run) -> "StoredRun":
        """The run that MLflow's client returned."""
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
        )

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
        return self.status == "FINISHED" or CONTINUED_IN in self.tags

    @property
    def reason(self) -> str:
        """Why the run failed or stopped, in a line."""
        failed = self.status == "FAILED"
        text = self.tags.get("error" if failed else "stopped", "").strip() or "no reason is known"
        return f"{'failed' if failed else 'stopped'}: {printable(text.splitlines()[0])}"
