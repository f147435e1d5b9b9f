"""Prints and logs the exact step of the sheet."""

import tempfile
from itertools import groupby
from pathlib import Path

import pandas as pd

from eml import exact
from eml.exact.step import SHEET, solve
from eml.tracking import log, runs
from eml.tracking.reap import begin


def gradients() -> None:
    """Solve the problem, print every line, and log the lines as CSV.

    Raises CheckError if a gradient is not its central difference.
    """
    begin(create=True)
    with runs.run("gradients", exact.__doc__ or "", {"recipe": "gradients"}):
        solution = solve(SHEET)
        for section, lines in groupby(solution.lines, key=lambda line: line.section):
            print(section, *(f"  {line.quantity} = {line.text}" for line in lines), "", sep="\n")
        # The other values are in the table: as metrics they would fill the UI with 70 charts.
        log.log_metrics({"loss": float(solution.loss)})
        with tempfile.TemporaryDirectory() as folder:
            table = pd.DataFrame(solution.lines)
            table["decimal"] = table["value"].map(float)
            table.to_csv(Path(folder, "gradients.csv"), index=False)
            log.log_files(Path(folder))
        print("every gradient equals its central difference")
        print(runs.where())
