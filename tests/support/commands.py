"""Commands of eml and of MLflow: in this process, or as subprocesses."""

import dataclasses
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from eml import cli
from eml.config import Config, resolve_device
from eml.launchers.options import LaunchOptions
from eml.machine import SIGNALS
from eml.recipes import RECIPES
from eml.recipes.recipe import Recipe, RecipeOptions
from eml.sweeps.launch import launch

ROOT = Path(__file__).parents[2]
# The metrics of add_training: a value for each epoch.
METRICS = ("test_accuracy", "test_loss", "train_loss", "train_seconds", "wall_seconds")
POINTS = {metric: [0.5, 0.5] for metric in METRICS}
LAUNCHING = {field.name for field in dataclasses.fields(LaunchOptions)}


def configs_of(recipe: str, **options: Any) -> list[Config]:
    """The Configs of a recipe with these options, for the device that they ask for."""
    made = RECIPES[recipe].options(**options)
    configs: list[Config] = made.placed(RECIPES[recipe].configs(made), resolve_device)
    return configs


def config_of(recipe: str, **options: Any) -> Config:
    """The Config of a recipe of one training."""
    (config,) = configs_of(recipe, **options)
    return config


def arguments(
    recipe: str, **options: Any
) -> tuple[Recipe, list[Config], RecipeOptions, LaunchOptions]:
    """What the command of a recipe calls launch() and plan() with."""
    options = {"launcher": "inline"} | options  # in this process, so that tests can change it
    launching = LaunchOptions(**{k: v for k, v in options.items() if k in LAUNCHING})
    made = RECIPES[recipe].options(**{k: v for k, v in options.items() if k not in LAUNCHING})
    return RECIPES[recipe], RECIPES[recipe].configs(made), made, launching


def train(recipe: str, **options: Any) -> None:
    """What the command of a recipe does, in this process."""
    launch(*arguments(recipe, **options))


def run_here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in this process, as if it were a process: exit code, output, complaints.

    Trainings stay in this process, too, unless a launcher is given: others would not know what a
    test has changed.
    """
    launching = arguments[:1] in [("sheet2",), ("sheet3",)] or {*RECIPES} & {*arguments[:2]}
    if launching and not {"--launcher", "--jobs", "--help"} & {*arguments}:
        words = 2 if arguments[0] == "plan" else 1
        arguments = (*arguments[:words], "--launcher", "inline", *arguments[words:])
    return call_here(*arguments)


def call_here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in this process, exactly as given."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    out, complaints = io.StringIO(), io.StringIO()
    code: Any = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(complaints):
        patch.setattr(sys, "argv", ["eml", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), complaints.getvalue())


def eml_command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "src/eml/__main__.py"), *arguments]


def mlflow_command(entry_point: str, project: Path = ROOT, **parameters: Any) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "run", str(project), "-e", entry_point]
    command += ["--env-manager", "local", "--experiment-name", "test"]
    for name, value in parameters.items():
        command += ["-P", f"{name}={value}"]
    return command


def without_the_powers_of_root(command: list[str]) -> list[str]:
    """The command as somebody to whom the modes of files apply."""
    if os.geteuid() != 0:
        return command
    if not shutil.which("setpriv"):
        pytest.skip("root may read and write everything, and there is no setpriv (util-linux)")
    capability = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={capability}", f"--inh-caps={capability}", *command]


def call(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def add_training(
    client: MlflowClient,
    recipe: str = "mlp_torch",
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, object] | None = None,
    points: Mapping[str, Sequence[float | None]] = POINTS,
    finished: bool = True,
    **options: Any,
) -> str:
    """The id of a training made by hand in the test's experiment, of one epoch by default.

    params: in place of those of its Config; without those that are None. points: by metric, a value
    for each epoch, or None. options: of the recipe.
    """
    experiment = client.get_experiment_by_name("test")
    assert experiment
    tags = {"recipe": recipe} | dict(tags or {})
    run_id: str = client.create_run(experiment.experiment_id, run_name=name, tags=tags).info.run_id
    values = vars(config_of(recipe, **{"epochs": 1} | options)) | dict(params or {})
    client.log_batch(
        run_id,
        [
            Metric(metric, value, 1000, epoch)
            for metric, by_epoch in points.items()
            for epoch, value in enumerate(by_epoch)
            if value is not None
        ],
        [Param(key, str(value)) for key, value in values.items() if value is not None],
    )
    if finished:
        client.set_terminated(run_id)
    return run_id


def stored_runs(client: MlflowClient) -> list[Run]:
    """All runs of the test's experiment, oldest first."""
    experiment = client.get_experiment_by_name("test")
    assert experiment
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]))


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What condition() is as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(f"{condition.__name__} has not become true")
