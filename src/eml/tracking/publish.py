"""Makes the figures and the summary of a recipe from the store, and logs them."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from eml.analysis.options import FigureName
from eml.analysis.summary import tried
from eml.tracking import log
from eml.tracking.history import history_of


def report_grid(
    run_ids: Sequence[str],
    chosen: Collection[str],
    pruned: Mapping[str, int],
    remarks: Sequence[str],
) -> None:
    """Print which learning rates were tried and chosen, and log it with a figure in `grid`.

    chosen, pruned: as for summary.tried.
    """
    from eml.analysis.report import write_grid

    history = history_of(run_ids)
    table = tried(history, chosen, pruned)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "grid").mkdir()
        print(write_grid(history, table, remarks, Path(folder, "grid")))
        log.log_files(Path(folder))


def report(figures: Sequence[FigureName], run_ids: Sequence[str]) -> None:
    """Print the summary of these runs, and log it with the figures."""
    # Importing matplotlib takes half a second, which must not delay the first batch.
    from eml.analysis.figures import FIGURES
    from eml.analysis.report import write_report

    history = history_of(run_ids)
    with tempfile.TemporaryDirectory() as folder:
        print(write_report({name: FIGURES[name] for name in figures}, history, Path(folder)))
        log.log_files(Path(folder))
