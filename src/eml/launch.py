"""Runs a recipe's Configs, each as one training in one MLflow run, and reports on them."""

import inspect
import tempfile
from pathlib import Path

from eml import tracking
from eml.config import Config
from eml.data import load
from eml.errors import CheckError
from eml.gradient_check import TOLERANCE, check_gradients
from eml.history import Selection, load_history
from eml.identity import training_digest
from eml.progress import Display
from eml.recipes import RECIPES, RESUMED
from eml.stopping import signals_held
from eml.train import Training


def launch(recipe: str, configs: list[Config], check: bool = False) -> None:
    """Train each Config in this process, one after the other, and log the recipe's figures.

    A recipe's own training writes into the run that `mlflow run` made, if there is one. A recipe
    made of other recipes' trainings makes that run the parent, and each training a nested child.

    check: compare the hand-written gradients with numerical ones first.
    """
    if [config.recipe for config in configs] == [recipe]:
        with _run(configs[0], nested=False) as run_id:
            _train(configs[0], check)
            _report(recipe, [run_id])
        return
    with tracking.run(recipe, _description(recipe), {"recipe": recipe}):
        run_ids, reused = [], []
        for number, config in enumerate(configs, start=1):
            print(f"training {number} of {len(configs)}: {config.run_name}", flush=True)
            if recipe in RESUMED and (done := tracking.finished_training(training_digest(config))):
                print(f"finished already, as run {done}", flush=True)
                reused.append(done)
                tracking.log_reused(reused)
                run_ids.append(done)
                continue
            with _run(config, nested=True) as run_id:
                _train(config)
            run_ids.append(run_id)
        _report(recipe, run_ids)


def _description(recipe: str) -> str:
    return inspect.getdoc(RECIPES[recipe])


def _run(config: Config, nested: bool):
    tags = {"recipe": config.recipe}
    return tracking.run(config.run_name, _description(config.recipe), tags, nested=nested)


def _train(config: Config, check: bool = False) -> None:
    dataset = load(config.dataset, config.subset, config.seed)
    if check:
        error = check_gradients(config, dataset)
        tracking.log_metrics({"gradient_check_error": error})
        print(f"gradients against central differences: worst relative error {error:.1e}")
        if not error < TOLERANCE:
            raise CheckError("the gradients are wrong: see gradient_check_error")
    training = Training(config, dataset)
    hardware = training.learner.hardware
    tracking.log_setup(config, dataset, training.learner)
    print(f"{config.run_name}: {tracking.where()}")
    print(
        f"{config.device_type}: {hardware['hardware']}, {hardware['threads']} threads", flush=True
    )
    records = []
    with Display(training) as display:
        for record in training:
            tracking.log_record(record)
            display.show(record)
            records.append(record)
    tracking.log_result(records)
    if not records[-1].diverged:
        tracking.log_model(training.learner.state(), config)


def _report(recipe: str, run_ids: list[str]) -> None:
    from eml.report import FIGURES, write_report  # matplotlib: the first batch need not wait for it

    with signals_held():
        history, _ = load_history(Selection(runs=run_ids))
    with tempfile.TemporaryDirectory() as folder:
        print(write_report(FIGURES[recipe], history, Path(folder)))
        tracking.log_files(Path(folder))
