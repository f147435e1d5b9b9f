"""Carries out a search for learning rates, and compares the optimizers at the chosen ones."""

from collections.abc import Sequence

from eml.analysis.summary import Outcomes
from eml.config import Config
from eml.recipes.optimizers import final
from eml.sweeps.group import Trainings
from eml.sweeps.request import Request
from eml.sweeps.search import choose, lower_rate
from eml.sweeps.search_plan import SearchPlan, search_plan
from eml.sweeps.status import status_of
from eml.tracking.publish import report, report_grid


def compare_optimizers(request: Request, trainings: Trainings) -> None:
    """Search for each optimizer's learning rate, train at the chosen ones, and report both."""
    grid = request.configs
    status = status_of(request)
    print(status, flush=True)
    plan = search_plan(request, status.states)
    print(f"{plan}\n\nsearch", flush=True)
    trainings.train(grid)
    trained = trainings.trained(grid)
    names = dict.fromkeys(config.optimizer for config in grid)
    choices = [choose([c for c in grid if c.optimizer == name], trained) for name in names]
    remarks = [remark for choice in choices for remark in choice.remarks]
    chosen = [choice.chosen for choice in choices if choice.chosen]
    finals, diverged = _train_finals(request, trainings, chosen, plan)

    searched, figure = trainings.made_of(grid), ""
    if searched:
        tied = trainings.made_of(config for choice in choices for config in choice.tied)
        outcomes = Outcomes(trainings.made_of(chosen), tied)
        figure = report_grid(
            request.recipe, searched, outcomes, [*remarks, *diverged], request.others
        )
    if compared := trainings.made_of(finals):
        report(request.recipe, compared, request.others, figure)


def _train_finals(
    request: Request, trainings: Trainings, chosen: Sequence[Config], plan: SearchPlan
) -> tuple[list[Config], list[str]]:
    """Train the chosen Configs of the search on all images; return all, and lines on divergence.

    Where one diverges, the next lower rate of the search is trained too.
    """
    print("\nthe chosen rates on all training images", flush=True)
    trainings.launcher, trainings.same_threads = request.finals_launcher, True
    trainings.like = request.timed_alike
    finals: list[Config] = []
    remarks: list[str] = []
    while chosen:
        new = [final(config, plan.options, seed) for config in chosen for seed in plan.seeds]
        trainings.train(new)
        finals += new
        ended = trainings.trained(new)
        diverged = {c.optimizer: c for c, t in ended.items() if t.diverged is not None}
        chosen = []
        for name, config in diverged.items():
            remark = f"{name} diverged at {config.learning_rate:g} on all images"
            if lower := lower_rate(config, request.configs):
                remark += f": {lower.learning_rate:g} is trained beside it"
                chosen.append(lower)
            remarks.append(remark)
    return finals, remarks
