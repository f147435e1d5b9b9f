"""The `compare` command: compares runs of the store."""

from eml.analysis.options import Selection
from eml.commands.options import command


@command(Selection)
def compare(options: Selection) -> None:
    """Compare runs of the tracking store, over epochs and over seconds. Trains nothing.

    By default the newest finished group of trainings is compared. The labels name what varies.
    Runs that differ in their seed alone become one curve with its range. Other differences are
    listed. Figures and summary become artifacts of a new run.
    """
    from eml.tracking.compare import compare

    compare(options)
