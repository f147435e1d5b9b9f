"""Carries out a search for learning rates, and compares the optimizers at the chosen ones."""

from time import perf_counter

from eml.analysis.summary import Outcomes
from eml.config import Config
from eml.recipes.optimizers import Options, final
from eml.sweeps.group import Trainings
from eml.sweeps.request import Request
from eml.sweeps.search import choose, lower_rate
from eml.sweeps.search_plan import search_plan
from eml.sweeps.status import status_of
from eml.tracking import log
from eml.tracking.publish import report, report_grid
from eml.training.cost import duration


def compare_optimizers(request: Request, trainings: Trainings) -> None:
    """Search for each optimizer's learning rate, train at the chosen ones, and report both."""
    started = perf_counter()
    grid, options = request.configs, request.options
    assert isinstance(options, Options)
    status = status_of(request)
    print(status, flush=True)
    plan, left_out = search_plan(request, status.states)
    print(plan)
    remarks = [f"budget_minutes={options.budget_minutes:g}: {line}" for line in left_out]
    print("".join(f"{line}\n" for line in remarks) + "\nsearch", flush=True)
    trainings.train(grid)
    trained = trainings.trained(grid)
    names = dict.fromkeys(config.optimizer for config in grid)
    choices = [choose([c for c in grid if c.optimizer == name], trained) for name in names]
    remarks += [remark for choice in choices for remark in choice.remarks]
    chosen = [choice.chosen for choice in choices if choice.chosen]

    print("\nthe chosen rates on all training images", flush=True)
    trainings.launcher, trainings.same_threads = request.finals_launcher, True
    finals: list[Config] = []
    new = [final(config, options, seed) for config in chosen for seed in plan.seeds]
    while new:
        trainings.train(new)
        finals += new
        diverged = [c for c, t in trainings.trained(new).items() if t.diverged is not None]
        new = []
        for config in {(c.optimizer, c.learning_rate): c for c in diverged}.values():
            remark = f"{config.optimizer} diverged at {config.learning_rate:g} on all images"
            if lower := lower_rate(config, grid):
                remark += f": {lower.learning_rate:g} is trained beside it"
                new += [final(lower, options, seed) for seed in plan.seeds]
            remarks.append(remark)
    if searched := trainings.made_of(grid):
        tied = trainings.made_of(config for choice in choices for config in choice.tied)
        outcomes = Outcomes(trainings.made_of(chosen), tied)
        output, others = request.launching.output, request.others
        report_grid(request.recipe, searched, outcomes, remarks, output, others)
    if compared := trainings.made_of(finals):
        report(request.recipe, compared, output, others, options.criterion)
    seconds = perf_counter() - started
    print(f"took {duration(seconds)}; the plan expected {duration(plan.left)}")
    log.log_metrics({"expected_seconds": plan.left, "taken_seconds": seconds})
