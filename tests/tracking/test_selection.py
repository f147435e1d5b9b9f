"""Which runs are compared, against a plain choice from the tables of mlflow.db."""

from random import Random

import pytest
from mlflow.entities import Metric, Param

from eml.analysis.options import Selection
from eml.errors import UserError
from eml.tracking.history import load_history
from support import tables
from support.commands import config_of
from support.random_runs import RandomRuns
from support.tables import Stored


def write(runs: RandomRuns, recipe: str, place: str, parent: str = "") -> None:
    """A training that often has the Config of another one, or one that is nearly the same."""
    choice = runs.random.choice
    config = config_of(
        recipe,
        lr=choice(["0.1", "0.1", "0.101"]) if recipe == "mlp_torch" else choice([0.1, 0.101]),
        epochs=choice([1, 1, 1, 2]),
        seed=choice([1, 2]),
        dtype=choice(["float32", "float32", "float64"]),
    )
    tags = {"recipe": recipe, "place": place, "training_digest": "a"}
    run_id = runs.create(**tags | ({"mlflow.parentRunId": parent} if parent else {}))
    points = [Metric("test_accuracy", 0.5, 1000, 0)] * choice([0, 1, 1, 1, 1])
    params = [Param(name, str(value)) for name, value in vars(config).items()]
    runs.client.log_batch(run_id, points, params)
    end(runs, run_id)


def end(runs: RandomRuns, run_id: str) -> None:
    if status := runs.random.choice(["FINISHED", "FINISHED", "KILLED", "FAILED", ""]):
        runs.client.set_terminated(run_id, status)


def chosen(runs: list[Stored], recipe: str) -> list[str]:
    """The ids of the newest finished group, oldest first. runs: of one experiment, oldest first."""
    tops = [run for run in runs if "mlflow.parentRunId" not in run.tags]
    tops = [run for run in tops if recipe in ("", run.tags["recipe"])]
    for top in reversed(tops):
        nested = [run for run in runs if run.tags.get("mlflow.parentRunId") == top.run_id]
        if top.status == "FINISHED" and (nested or top.params):
            if not nested:  # trainings of one recipe form a group, if they are as long
                alike = [run for run in tops if run.tags["recipe"] == top.tags["recipe"]]
                nested = [run for run in alike if run.planned == top.planned]
            return [run.run_id for run in tables.compared(nested)]
    return []


@pytest.mark.parametrize("seed", range(3))
def test_the_newest_finished_group_is_compared_each_config_once(seed, store, tmp_path):
    runs = RandomRuns(store, Random(seed))
    for place in "abc":
        runs.experiment = store.create_experiment(place)
        for _ in range(7):
            if runs.random.random() < 0.7:
                write(runs, "mlp_torch", place)
                continue
            parent = runs.create(recipe="lr_sweep", place=place)
            for _ in range(runs.random.randrange(4)):
                write(runs, "mlp_numpy", place, parent)
            end(runs, parent)
    stored = tables.read(tmp_path / "mlflow.db").values()
    for place in "abc":
        for recipe in ("", "mlp_torch", "lr_sweep"):
            expected = chosen([run for run in stored if run.tags.get("place") == place], recipe)
            selection = Selection(experiment=place, recipe=recipe)
            if expected:
                assert load_history(selection)[0]["run_id"].unique().tolist() == expected
            else:
                with pytest.raises(UserError, match=r"no (finished )?training"):
                    load_history(selection)
