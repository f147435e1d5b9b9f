"""Runs a recipe's Configs, each as one training in one MLflow run."""

import inspect

from eml import tracking
from eml.data import load
from eml.progress import Display
from eml.recipes import RECIPES, Config
from eml.train import Training


def launch(recipe: str, configs: list[Config]) -> None:
    """Train each Config in this process, one after the other.

    One Config is one run, the one that `mlflow run` made if there is one. With several, that run
    is the parent and each training a nested child.
    """
    description = inspect.getdoc(RECIPES[recipe])
    tags = {"recipe": recipe}
    if len(configs) == 1:
        _train(configs[0], description, nested=False)
        return
    with tracking.run(recipe, description, tags):
        for config in configs:
            _train(config, description=inspect.getdoc(RECIPES[config.recipe]), nested=True)


def _train(config: Config, description: str, nested: bool) -> None:
    tags = {"recipe": config.recipe}
    with tracking.run(config.run_name, description, tags, nested=nested):
        dataset = load(config.dataset, config.subset, config.seed)
        training = Training(config, dataset)
        hardware = training.learner.hardware
        tracking.log_setup(config, dataset, hardware)
        print(f"{config.run_name}: {tracking.where()}")
        print(
            f"{config.device_type}: {hardware['hardware']}, {hardware['threads']} threads",
            flush=True,
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
