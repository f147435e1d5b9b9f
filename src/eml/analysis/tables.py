"""Tables for people: the summary in words and per cent, and Markdown."""

import math
from collections.abc import Mapping, Sequence

from eml.analysis.curves import Seconds
from eml.analysis.labels import in_digits
from eml.analysis.summary import CurveSummary, by_outcome
from eml.analysis.verdicts import FEW_IMAGES, Verdict


def brief(rows: Sequence[CurveSummary]) -> list[dict[str, str]]:
    """What people look at first, the best curve first; a column that is empty is left out."""
    ranked = sorted(rows, key=lambda row: (math.isnan(row.final_accuracy), -row.final_accuracy))
    return _filled([_in_brief(row) for row in ranked])


def _in_brief(row: CurveSummary) -> dict[str, str]:
    accuracy = _per_cent(row.final_accuracy) or row.diverged or row.unfinished or "none"
    if not math.isnan(row.final_low):
        accuracy += f" ({100 * row.final_low:.1f} to {100 * row.final_high:.1f})"
    return {
        "curve": row.curve,
        f"final {row.split} accuracy": accuracy,
        "best in epoch": row.best_epoch,
        "s/epoch": "" if math.isnan(row.seconds.mean) else in_digits(row.seconds.mean),
        "not separable from": by_outcome(row.verdicts, shortened=True)["not_separable_from"],
    }


def _filled(texts: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows without the columns that are empty in all of them."""
    names = dict.fromkeys(name for text in texts for name in text)
    filled = [name for name in names if any(text.get(name) for text in texts)]
    return [{name: text.get(name, "") for name in filled} for text in texts]


def readable(rows: Sequence[CurveSummary]) -> list[dict[str, str]]:
    """The summary for people: per cent, a range in one column.

    A column that is empty in all rows is left out, and the verdicts where no pair is judged.
    """
    judged = [
        name
        for name in ("verdicts", "seconds_verdicts")
        if any(pair.test for row in rows for pair in getattr(row, name))
    ]
    return _filled([_in_words(row, judged) for row in rows])


def _in_words(row: CurveSummary, judged: Sequence[str]) -> dict[str, str]:
    spread = ""
    if row.n > 1 and row.complete:
        spread = f" ({row.final_lowest:.2%} to {row.final_highest:.2%})"
    return {
        "curve": row.curve,
        "n": _seeds(row),
        f"final {row.split} accuracy": _per_cent(row.final_accuracy) + spread,
        "95 % interval": _interval(row),
        **(_against(row.verdicts) if "verdicts" in judged else {}),
        "best": _per_cent(row.best_accuracy),
        "in epoch": row.best_epoch,
        "train s/epoch": _seconds(row.seconds),
        **(_against(row.seconds_verdicts, "seconds ") if "seconds_verdicts" in judged else {}),
        "parameters": "" if row.parameters is None else f"{row.parameters:,}",
        "diverged": row.diverged,
        "unfinished": row.unfinished,
    }


def _seeds(row: CurveSummary) -> str:
    """ "5", or "2 of 5 (3 diverged)"."""
    if row.complete == row.n:
        return str(row.n)
    others = {name: getattr(row, name).count("seed ") for name in ("diverged", "unfinished")}
    why = ", ".join(f"{count} {name}" for name, count in others.items() if count)
    return f"{row.complete} of {row.n} ({why or 'without an accuracy'})"


def _against(verdicts: Sequence[Verdict], prefix: str = "") -> dict[str, str]:
    columns = by_outcome(verdicts, shortened=True).items()
    return {prefix + name.replace("_", " "): text for name, text in columns}


def _interval(row: CurveSummary) -> str:
    if math.isnan(row.final_low):
        return "too few seeds" if row.n > 1 else ""
    kind = " (test set alone)" if row.n == 1 else ""
    if row.images < FEW_IMAGES:
        kind = f" (on these {row.images} images{' alone' if row.n == 1 else ''})"
    return f"{row.final_low:.2%} to {row.final_high:.2%}{kind}"


def _seconds(seconds: Seconds) -> str:
    mean, low, high = ("" if math.isnan(value) else in_digits(value) for value in seconds)
    return mean if low == high else f"{mean} ({low} to {high})"


def _per_cent(fraction: float) -> str:
    return "" if math.isnan(fraction) else f"{fraction:.2%}"


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows with the same columns as a Markdown table with aligned columns."""
    cells = [list(map(str, line)) for line in (rows[0], *(row.values() for row in rows))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = [" | ".join(map(str.ljust, row, widths)) for row in cells]
    return "".join(f"| {line} |\n" for line in lines)
