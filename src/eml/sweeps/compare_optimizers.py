"""Carries out a search for learning rates, and compares the winners."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from time import perf_counter

from eml.analysis.curves import Training
from eml.analysis.summary import Outcomes
from eml.config import Config
from eml.recipes.optimizers import Options
from eml.sweeps.group import Trainings
from eml.sweeps.lr_search import Findings, search
from eml.sweeps.request import Request
from eml.sweeps.search_plan import search_plan
from eml.sweeps.status import status_of
from eml.tracking import log
from eml.tracking.publish import report, report_grid
from eml.tracking.runs import close_run
from eml.tracking.tags import PRUNED_AFTER
from eml.training.cost import duration


def compare_optimizers(request: Request, trainings: Trainings) -> None:
    """Search for each optimizer's learning rate, train the winners with all seeds, report both."""
    started = perf_counter()
    grid, options = request.configs, request.options
    assert isinstance(options, Options)
    status = status_of(request)
    print(status, flush=True)
    plan, left_out = search_plan(request, status.states)
    expected = plan.left
    print(plan)
    for line in left_out:
        print(f"budget_minutes={options.budget_minutes:g}: {line}")

    budget = 60 * options.budget_minutes or float("inf")

    def fits(seconds: float) -> bool:
        return perf_counter() - started + seconds <= budget

    found = Findings(options.criterion, remarks=left_out)
    stages = search(grid, plan.prune, plan.extend, found)
    trained: dict[Config, Training] | None = None
    with suppress(StopIteration):
        while True:
            stage = stages.send(trained)
            trained = None
            if stage.optional and not fits(plan.launcher.seconds(stage.configs) + plan.finals()):
                continue
            print(f"\n{stage.title}", flush=True)
            trainings.train(stage.configs, stage.until)
            trained = trainings.trained(stage.configs)
    pruned = {
        trainings.run_ids[trial.config]: trial.pruned
        for trial in found.every()
        if trial.pruned is not None
    }
    for run_id in pruned.keys() - set(trainings.reused):
        close_run(run_id, "KILLED", PRUNED_AFTER, str(pruned[run_id]), only=["SCHEDULED"])
    winners = found.winners()
    seeds = list(plan.seeds)
    while len(seeds) > 1 and not fits(
        request.finals_launcher.seconds(_missing(trainings, _finals(winners, seeds)))
    ):
        found.remarks.append(f"seed {seeds.pop()} is left out, because the budget is used up")
    finals = _finals(winners, seeds)
    print("\nwinners on all training images", flush=True)
    trainings.launcher, trainings.same_threads = request.finals_launcher, True
    trainings.train(finals)
    published = request.launching.output, request.others, options.criterion
    if on_grid := trainings.made_of(trial.config for trial in found.every()):
        tied = [trial.config for name in found.trials for trial in found.ties(name)]
        outcomes = Outcomes(trainings.made_of(winners), trainings.made_of(tied), pruned)
        report_grid(request.recipe, on_grid, outcomes, found.remarks, *published)
    if compared := trainings.made_of(finals):
        report(request.recipe, compared, *published)
    seconds = perf_counter() - started
    print(f"took {duration(seconds)}; the plan expected {duration(expected)}")
    log.log_metrics({"expected_seconds": expected, "taken_seconds": seconds})


def _finals(winners: Sequence[Config], seeds: Sequence[int]) -> list[Config]:
    return [replace(winner, validation=0, seed=seed) for winner in winners for seed in seeds]


def _missing(trainings: Trainings, configs: Sequence[Config]) -> list[Config]:
    return [config for config in configs if trainings.finished(config) is None]
