"""The search for learning rates, on curves made by hand: nothing is trained."""

import math
from collections.abc import Callable

import optuna
import pandas as pd
import pytest

from eml.config import Config, ConfigError
from eml.sweeps.lr_search import Findings, Stage, rungs, search
from support.commands import configs_of

Curve = Callable[[Config, int], float]  # validation accuracy of a Config after an epoch


def grid(**options) -> list[Config]:
    defaults = {"optimizers": "sgd,adam", "lrs": "0.1,0.03,0.01,0.003,0.001", "epochs": 16}
    return configs_of("optimizers", **defaults | {"device": "cpu", "subset": 200} | options)


def history(config: Config, curve: Curve, last: int) -> pd.DataFrame:
    accuracies = [0.1] + [curve(config, epoch) for epoch in range(1, last + 1)]
    diverged = next((n for n, value in enumerate(accuracies) if math.isnan(value)), last)
    accuracies = accuracies[: diverged + 1]
    return pd.DataFrame(
        {
            "epoch": range(len(accuracies)),
            "validation": config.validation,
            "validation_accuracy": accuracies,
            "train_loss": accuracies,
        }
    )


def carry_out(
    configs: list[Config], curve: Curve, *, prune: bool = True, extend: int = 2, ahead: bool = False
) -> tuple[Findings, list[Stage]]:
    """Do what the search asks for. ahead: every training is in the store, finished."""
    found, done = Findings(), []
    stages = search(configs, prune, extend, found)
    histories = None
    while True:
        try:
            stage = stages.send(histories)
        except StopIteration:
            return found, done
        done.append(stage)
        histories = {
            config: history(config, curve, config.epochs if ahead else stage.until or config.epochs)
            for config in stage.configs
        }


def peak_at(**best: float) -> Curve:
    """An optimizer's accuracy rises over the epochs, highest at its best rate."""

    def curve(config: Config, epoch: int) -> float:
        away = abs(math.log10(config.learning_rate / best[config.optimizer]))
        return max(0.1, 0.6 - 0.2 * away + 0.01 * epoch)

    return curve


def rates(configs) -> list[float]:
    return [config.learning_rate for config in configs]


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, []), (2, [1]), (5, [1, 2]), (8, [1, 2, 4]), (30, [3, 6, 12])]
)
def test_rungs(epochs, expected):
    assert rungs(epochs) == expected


def test_the_best_rate_of_each_optimizer_is_found():
    found, _ = carry_out(grid(), peak_at(sgd=0.03, adam=0.003))
    assert {c.optimizer: c.learning_rate for c in found.winners()} == {"sgd": 0.03, "adam": 0.003}
    assert found.remarks == []


def test_without_pruning_all_are_trained_to_the_end():
    found, (stage,) = carry_out(grid(), peak_at(sgd=0.03, adam=0.003), prune=False)
    assert stage == Stage("grid", grid(), None)
    assert all(trial.pruned is None for trial in found.every())


def test_weak_trainings_are_pruned_as_optuna_says():
    curve = peak_at(sgd=0.01, adam=0.01)
    found, stages = carry_out(grid(optimizers="sgd"), curve)
    # The reference: Optuna's own study, told in the same order, from the middle outwards.
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    order = [0.01, 0.03, 0.003, 0.1, 0.001]
    by_rate = {config.learning_rate: config for config in grid(optimizers="sgd")}
    trials = {rate: study.ask() for rate in order}
    pruned = {}
    for rung in (2, 4, 8):
        for rate in order:
            if rate not in pruned:
                trials[rate].report(curve(by_rate[rate], rung), rung)
                if trials[rate].should_prune():
                    pruned[rate] = rung
    assert {t.config.learning_rate: t.pruned for t in found.every() if t.pruned} == pruned
    assert len(pruned) == 4
    assert [stage.until for stage in stages] == [2, 4, 8, None]
    assert rates(stages[-1].configs) == [0.01]


def test_optimizers_do_not_compete_with_each_other():
    weak = peak_at(sgd=0.01, adam=0.01)
    found, _ = carry_out(grid(), lambda c, epoch: weak(c, epoch) - 0.2 * (c.optimizer == "sgd"))
    assert rates(found.winners()) == [0.01, 0.01]


def test_what_the_store_has_already_changes_nothing():
    curve = peak_at(sgd=0.03, adam=0.003)
    found, stages = carry_out(grid(), curve)
    again, same = carry_out(grid(), curve, ahead=True)
    assert [s.configs for s in same] == [s.configs for s in stages]
    assert [(t.config, t.pruned, t.best) for t in again.every()] == [
        (t.config, t.pruned, t.best) for t in found.every()
    ]


@pytest.mark.parametrize("prune", [True, False])
def test_a_best_rate_at_the_edge_extends_the_grid(prune):
    found, stages = carry_out(grid(), peak_at(sgd=0.3, adam=0.003), prune=prune)
    assert 0.33 in [t.config.learning_rate for t in found.trials["sgd"]]
    assert rates(found.winners())[0] == 0.33
    assert found.remarks == [
        "sgd is best at the edge of its rates: 0.33 is tried too",
        "sgd is best at the edge of its rates: 1.1 is tried too",
    ]
    beyond = [stage for stage in stages if stage.title.startswith("beyond")]
    assert beyond[0].optional
    assert not any(stage.optional for stage in stages if stage not in beyond)


def test_the_grid_is_not_extended_without_end():
    found, _ = carry_out(grid(optimizers="adam"), peak_at(adam=1e-5))
    assert rates(found.winners()) == [0.00011]
    assert found.remarks[-1] == (
        "adam is best at the edge of its rates, and extend=2 allows no further step: 3.7e-05 would "
        "be next"
    )


def test_a_step_that_is_declined_is_left_out():
    found = Findings()
    configs = grid(optimizers="adam")
    stages = search(configs, True, 2, found)
    curve = peak_at(adam=1e-5)
    stage = next(stages)
    while not stage.optional:
        stage = stages.send({c: history(c, curve, stage.until or c.epochs) for c in stage.configs})
    with pytest.raises(StopIteration):
        stages.send(None)
    assert rates(found.winners()) == [0.001]
    assert found.remarks[-1] == (
        "learning rate 0.00033 of adam is left out, because the budget has no time for it"
    )


def test_a_diverged_training_is_a_failure_of_its_rate():
    curve = peak_at(sgd=0.1, adam=0.01)
    found, _ = carry_out(
        grid(),
        lambda c, epoch: math.nan if c.learning_rate > 0.05 and epoch > 2 else curve(c, epoch),
    )
    assert rates(found.winners()) == [0.03, 0.01]
    assert found.trials["sgd"][0].diverged == 3
    assert found.remarks == []  # 0.1 was tried: 0.03 is not at the edge


def test_an_optimizer_all_of_whose_rates_diverge_is_tried_below():
    def curve(config: Config, epoch: int) -> float:
        return math.nan if config.optimizer == "sgd" else peak_at(adam=0.01)(config, epoch)

    found, _ = carry_out(grid(), curve)
    assert [c.optimizer for c in found.winners()] == ["adam"]
    assert 0.00033 in [t.config.learning_rate for t in found.trials["sgd"]]
    assert found.remarks[0] == "sgd fails at every rate: 0.00033 is tried too"


def test_a_training_that_failed_has_no_history():
    configs = grid(optimizers="sgd")
    found = Findings()
    stages = search(configs, False, 0, found)
    stage = next(stages)
    curve = peak_at(sgd=0.1)
    with pytest.raises(StopIteration):
        stages.send({c: history(c, curve, 16) for c in stage.configs[1:]})
    assert rates(found.winners()) == [0.03]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizers": "sgd,addam"}, "optimizer=addam: give one of sgd"),
        ({"lrs": "0.1"}, "lrs=0.1: give at least two learning rates"),
        ({"lrs": "0.1,0"}, "lr=0: give a number above 0"),
        ({"seeds": "1,x"}, "seeds=1,x: give whole numbers"),
        ({"prune": "hyperband"}, "prune=hyperband: give one of halving, none"),
        ({"extend": -1}, "extend=-1: give 0 or more"),
        ({"budget_minutes": -1.0}, "budget_minutes=-1.0: give 0 or more"),
        ({"subset": 60}, "subset=60: give 100 or more, or 0 for all"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ConfigError, match=message):
        grid(**options)
