"""The search for learning rates, on curves made by hand: nothing is trained."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from eml.analysis.curves import Training
from eml.config import Config, ConfigError
from eml.sweeps.lr_search import Findings, Stage, halfway, search
from support.commands import configs_of

Curve = Callable[[Config, int], float]  # validation accuracy of a Config after an epoch


def grid(**options) -> list[Config]:
    # 5,000 validation images, so that no two rates tie unless they should.
    defaults = {"optimizers": "sgd,adam", "lrs": "0.1,0.03,0.01,0.003,0.001", "epochs": 16}
    return configs_of("optimizers", **defaults | {"device": "cpu"} | options)


def trained(config: Config, curve: Curve, last: int) -> Training:
    accuracies = [0.1] + [curve(config, epoch) for epoch in range(1, last + 1)]
    diverged = next((n for n, value in enumerate(accuracies) if math.isnan(value)), last)
    accuracies = accuracies[: diverged + 1]
    points = {"validation_accuracy": accuracies, "train_loss": accuracies}
    epochs = np.arange(len(accuracies))
    return Training(
        {"validation": config.validation},
        {"epoch": epochs} | {name: np.array(values) for name, values in points.items()},
    )


def carry_out(
    configs: list[Config],
    curve: Curve,
    *,
    prune: bool = True,
    extend: int = 2,
    ahead: bool = False,
    criterion: str = "last",
) -> tuple[Findings, list[Stage]]:
    """Do what the search asks for. ahead: every training is in the store, finished."""
    found, done = Findings(criterion), []
    stages = search(configs, prune, extend, found)
    stored = None
    while True:
        try:
            stage = stages.send(stored)
        except StopIteration:
            return found, done
        done.append(stage)
        stored = {
            config: trained(config, curve, config.epochs if ahead else stage.until or config.epochs)
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


@pytest.mark.parametrize(("epochs", "expected"), [(1, None), (2, 1), (5, 2), (30, 15)])
def test_halfway(epochs, expected):
    assert halfway(epochs) == expected


def test_the_best_rate_of_each_optimizer_is_found():
    found, _ = carry_out(grid(), peak_at(sgd=0.03, adam=0.003))
    assert {c.optimizer: c.learning_rate for c in found.winners()} == {"sgd": 0.03, "adam": 0.003}
    assert found.remarks == []


def test_without_pruning_all_are_trained_to_the_end():
    found, (stage,) = carry_out(grid(), peak_at(sgd=0.03, adam=0.003), prune=False)
    assert stage == Stage("grid", grid(), None)
    assert all(trial.pruned is None for trial in found.every())


def test_halfway_the_worse_half_of_an_optimizer_stops():
    found, stages = carry_out(grid(optimizers="sgd"), peak_at(sgd=0.01))
    assert [stage.until for stage in stages] == [8, None]
    assert rates(stages[1].configs) == [0.03, 0.01, 0.003]
    pruned = {trial.config.learning_rate: trial.pruned for trial in found.every()}
    assert pruned == {0.1: 8, 0.03: None, 0.01: None, 0.003: None, 0.001: 8}
    # Of two alike at the border both go on.
    alike = {0.1: 0.5, 0.03: 0.4, 0.01: 0.3, 0.003: 0.3, 0.001: 0.2}
    _, stages = carry_out(grid(optimizers="sgd"), lambda c, _: alike[c.learning_rate], extend=0)
    assert rates(stages[1].configs) == [0.1, 0.03, 0.01, 0.003]


def test_of_four_rates_two_go_on_and_a_past_peak_saves_none():
    curve = peak_at(sgd=0.01)

    def fallen(config: Config, epoch: int) -> float:
        return 0.9 if config.learning_rate == 0.1 and epoch == 2 else curve(config, epoch)

    four = grid(optimizers="sgd", lrs="0.1,0.03,0.01,0.001")
    _, stages = carry_out(four, fallen)
    assert rates(stages[1].configs) == [0.03, 0.01]


def test_what_diverged_does_not_count_among_the_half():
    def curve(config: Config, epoch: int) -> float:
        return math.nan if config.learning_rate > 0.02 else peak_at(sgd=0.003)(config, epoch)

    _, stages = carry_out(grid(optimizers="sgd"), curve)
    assert rates(stages[1].configs) == [0.003, 0.001]


def test_a_rate_that_starts_slowly_is_found():
    """A rate behind until a third of the epochs, and 2.6 points ahead in the end."""

    def curve(config: Config, epoch: int) -> float:
        if config.learning_rate == 0.003:
            return 0.1 if epoch < 5 else 0.65 + 0.001 * epoch
        return peak_at(sgd=0.03)(config, epoch) - 0.12

    found, _ = carry_out(grid(optimizers="sgd"), curve)
    assert rates(found.winners()) == [0.003]


def falling(config: Config, epoch: int) -> float:
    """0.01 is best in epoch 5 and falls, 0.003 rises to the end."""
    if config.learning_rate == 0.01:
        return 0.692 - 0.0084 * abs(epoch - 5)
    return 0.669 - 0.002 * (16 - epoch) if config.learning_rate == 0.003 else 0.3


@pytest.mark.parametrize(("criterion", "rate"), [("last", 0.003), ("best", 0.01)])
def test_the_criterion_decides(criterion, rate):
    found, _ = carry_out(grid(optimizers="sgd"), falling, criterion=criterion)
    assert rates(found.winners()) == [rate]


def test_of_ties_the_middle_rate_is_taken_and_it_is_said():
    accuracies = {0.1: 0.641, 0.03: 0.645, 0.01: 0.648, 0.003: 0.639, 0.001: 0.5}
    found, _ = carry_out(
        grid(optimizers="sgd"), lambda c, _: accuracies[c.learning_rate], prune=False
    )
    # The best, 0.648 of 5,000 images, has an error of 1.3 points; of two middles the better one.
    assert rates(trial.config for trial in found.ties("sgd")) == [0.003, 0.01, 0.03, 0.1]
    assert rates(found.winners()) == [0.01]
    assert found.remarks == [
        "the rates 0.003, 0.01, 0.03, 0.1 of sgd are tied within the error of 5000 validation "
        "images: the middle one, 0.01, is taken"
    ]


def test_a_rate_that_never_got_above_chance_is_not_chosen():
    found, _ = carry_out(
        grid(), lambda c, e: 0.105 if c.optimizer == "sgd" else peak_at(adam=0.01)(c, e), extend=0
    )
    assert [config.optimizer for config in found.winners()] == ["adam"]
    assert found.remarks[-1] == "no rate of sgd got above chance"


def synthetic(seed: int) -> tuple[dict[float, float], Curve]:
    """True final accuracies by rate, and noisy curves to them: slow, late and falling ones."""
    rng = np.random.default_rng(seed)
    true, noisy = {}, {}
    epochs = np.arange(1, 31)
    for rate in (0.1, 0.03, 0.01, 0.003, 0.001):
        top, tau = rng.uniform(0.55, 0.70), np.exp(rng.uniform(np.log(1.5), np.log(8)))
        delay, fall = rng.choice([0, 0, 0, 2, 4]), rng.choice([0, 0, 0.002, 0.004])
        curve = 0.1 + (top - 0.1) * (1 - np.exp(-np.maximum(epochs - delay, 0) / tau))
        curve -= fall * np.maximum(epochs - 8, 0)
        true[rate], noisy[rate] = curve[-1], curve + rng.normal(0, 0.007, len(epochs))
    return true, lambda config, epoch: float(noisy[config.learning_rate][epoch - 1])


def test_the_regret_of_sixty_searches_is_small():
    """Against the best rate, in the end; asynchronous halving at 3, 6 and 12 epochs had 2.9 points.

    Whatever the order of the grid, the result is the same.
    """
    regrets = []
    for seed in range(60):
        true, curve = synthetic(seed)
        chosen = set()
        for lrs in ("0.1,0.03,0.01,0.003,0.001", "0.003,0.1,0.001,0.01,0.03"):
            configs = grid(optimizers="sgd", lrs=lrs, epochs=30)
            found, _ = carry_out(configs, curve, extend=0)
            chosen.update(rates(found.winners()))
        (rate,) = chosen
        regrets.append(max(true.values()) - true[rate])
    assert np.mean(regrets) < 0.005
    assert np.mean(np.array(regrets) > 0.026) < 0.05


def test_optimizers_do_not_compete_with_each_other():
    weak = peak_at(sgd=0.01, adam=0.01)
    found, _ = carry_out(grid(), lambda c, epoch: weak(c, epoch) - 0.2 * (c.optimizer == "sgd"))
    assert rates(found.winners()) == [0.01, 0.01]


def test_what_the_store_has_already_changes_nothing():
    curve = peak_at(sgd=0.03, adam=0.003)
    found, stages = carry_out(grid(), curve)
    again, same = carry_out(grid(), curve, ahead=True)
    assert [s.configs for s in same] == [s.configs for s in stages]
    assert [(t.config, t.pruned, t.score("last")) for t in again.every()] == [
        (t.config, t.pruned, t.score("last")) for t in found.every()
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
    found = Findings("last")
    configs = grid(optimizers="adam")
    stages = search(configs, True, 2, found)
    curve = peak_at(adam=1e-5)
    stage = next(stages)
    while not stage.optional:
        stage = stages.send({c: trained(c, curve, stage.until or c.epochs) for c in stage.configs})
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
    found = Findings("last")
    stages = search(configs, False, 0, found)
    stage = next(stages)
    curve = peak_at(sgd=0.1)
    with pytest.raises(StopIteration):
        stages.send({c: trained(c, curve, 16) for c in stage.configs[1:]})
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
