"""One step of gradient descent by hand: the 5-3-1 ReLU network.

Every value is worked out in exact fractions, printed step by step, logged as Markdown and CSV, and
compared with central differences in exact fractions, where no step is too small.

Source: sheet 3, task 3.1.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

# The command line imports this module for its options, so it imports NumPy and MLflow later.

ABOUT = __doc__ or ""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the exact step."""

    file: Annotated[
        str, "TOML file with numbers in place of the sheet's; an absolute path for `mlflow run`"
    ] = ""
    autograd: Annotated[
        bool, "compare with PyTorch's automatic differentiation, too, which takes seconds to load"
    ] = False


def gradients(options: Options) -> None:
    """Solve the problem, print every line, and log all values as Markdown and CSV.

    Raises UserError if the file describes no problem, CheckError if a check fails.
    """
    from eml.exact.check import check
    from eml.exact.files import read_problem, text, write_files
    from eml.exact.step import SHEET, solve
    from eml.tracking import log, runs
    from eml.tracking.reap import begin

    problem = read_problem(Path(options.file).resolve()) if options.file else SHEET
    solution = solve(problem)
    begin(create=True)
    with runs.run("gradients", ABOUT, {"recipe": "gradients"}):
        print(text(solution))
        # The other values are in the table: as metrics they would fill the UI with 70 charts.
        log.log_metrics({"loss": float(solution.loss)})
        with tempfile.TemporaryDirectory() as folder:
            write_files(solution, Path(folder))
            log.log_files(Path(folder))
        differences = check(problem, solution, options.autograd)
        log.log_metrics(differences)
        for name, value in differences.items():
            print(f"{name.replace('_', ' ')}, largest: {value:g}")
        if not differences:
            print("a check is left out: a hidden neuron is at ReLU's kink, which has no derivative")
        print(runs.where())
