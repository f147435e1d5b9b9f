"""The `export` command: runs and their epochs as tables for other programs."""

from pathlib import Path

import pandas as pd

from eml.analysis.options import FORMATS, ExportOptions
from eml.config import one_of
from eml.errors import UserError
from eml.tracking.history import METRICS, load_history
from eml.tracking.publish import make_output
from eml.tracking.selection import selected_by


def export(options: ExportOptions) -> None:
    """Write the selected runs, a row for each, and their epochs, a row for each, into a folder.

    Raises UserError, before anything is written, if there is nothing to export.
    """
    one_of("format", options.format, FORMATS)
    if not options.output:
        raise UserError("output: give a new folder for the tables")
    history, left_out = load_history(selected_by(options))
    for line in left_out:
        print(line)
    make_output(options.output)
    by_epoch = [name for name in ("run_id", "epoch", *METRICS) if name in history]
    runs = history.drop(columns=by_epoch[1:]).drop_duplicates("run_id")
    for name, table in (("runs", runs), ("epochs", history[by_epoch])):
        file = Path(options.output, f"{name}.{options.format}")
        _write(table, file)
        print(f"{file.resolve()}: {len(table)} rows")


def _write(table: pd.DataFrame, file: Path) -> None:
    if file.suffix == ".csv":
        table.to_csv(file, index=False)
    else:
        # A column of texts and numbers, as a parameter of any run may be, becomes text.
        mixed = [name for name in table if table[name].dtype == object]
        table.astype(dict.fromkeys(mixed, "string")).to_parquet(file, index=False)
