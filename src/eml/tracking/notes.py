"""Writes a run's description for MLflow's UI: links, charts, and a score to sort by."""

from collections.abc import Sequence

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from eml.analysis.comparison import Comparison
from eml.analysis.curves import Training
from eml.analysis.labels import LAST
from eml.tracking import ui
from eml.tracking.calls import store_call
from eml.tracking.runs import active_run
from eml.tracking.tags import COMMAND


def results(comparison: Comparison) -> list[str]:
    """A line of Markdown for each run, with a link, accuracy and time; the best first."""

    def rank(training: Training) -> float:
        return -1.0 if training.unfinished else training.score(LAST)

    return [_result(t) for t in sorted(comparison.trainings, key=rank, reverse=True)]


def _result(training: Training) -> str:
    name = training.values["run_name"].replace("[", "(").replace("]", ")")
    store = training.values["store"]  # the UI shows the store here alone
    page = ui.page(training.values["experiment_id"], training.run_id)
    named = f"{name} of {store}" if store else f"[{name}]({page})"
    seconds = training.points["train_seconds"][-1]
    if training.diverged is not None:
        found = f"diverged in epoch {training.diverged}"
    else:
        found = f"{training.accuracies[-1]:.2%} after epoch {training.last_epoch}"
        found += f" of {training.values['epochs']}" if training.unfinished else ""
    return f"- {named}: {found}, {seconds:{',.0f' if seconds >= 100 else '.3g'}} s of training"


@store_call
def describe(lines: Sequence[str], about: str) -> None:
    """Set the note of the active run: the lines, the command, and what it is about.

    The lines come first because the UI shows the beginning alone. Lines that MLflow has no room for
    are counted.
    """
    run = mlflow.get_run(active_run().info.run_id)
    command = run.data.tags.get(COMMAND, "")
    rest = [f"Command: `{command}`"] if command else []
    rest += [about] if about else []
    room = ui.LONGEST_TAG - len("\n\n".join(rest)) - 100
    shown: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            shown.append(f"- and {len(lines) - len(shown)} more: summary.csv among the artifacts")
            break
        shown.append(line)
    note = "\n\n".join(["\n".join(shown), *rest])
    mlflow.set_tag(MLFLOW_RUN_NOTE, note[: ui.LONGEST_TAG])


@store_call
def charts_of(comparison: Comparison) -> str:
    """The charts of those of these runs that the store here has, below the address of the UI."""
    info = mlflow.get_run(active_run().info.run_id).info
    local = [t for t in comparison.trainings if not t.values["store"]]
    if not local:
        return ui.charts(info.experiment_id)
    return ui.charts_of(
        local[0].values["experiment_id"],
        info.run_name,
        [training.run_id for training in local],
        comparison.differing,
        comparison.split,
    )


def best_score(comparison: Comparison) -> dict[str, float]:
    """The highest accuracy after the last epoch of any run, as that run has logged it."""
    scores = [t.score(LAST) for t in comparison.trainings if not t.unfinished]
    return {f"final_{comparison.split}_accuracy": max(scores)} if scores else {}
