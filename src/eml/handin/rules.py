"""Checks trainings against the rules of a sheet."""

from collections.abc import Sequence

import pandas as pd

from eml.analysis.labels import words
from eml.handin.sheet import Rule

Broken = list[tuple[Rule, str]]


def broken(rules: Sequence[Rule], rows: pd.DataFrame, tried: pd.DataFrame) -> Broken:
    """The rules that these trainings break, each with the reason.

    rows: one or more rows for each run in the figures. tried: the same for the trainings of a
    search; may be empty.
    """
    return [(rule, why) for rule in rules if (why := _why_broken(rule, rows, tried))]


def _why_broken(rule: Rule, rows: pd.DataFrame, tried: pd.DataFrame) -> str:
    if rule.field not in rows:
        return f"the runs do not say their {rule.field}"
    if rule.tried_by:
        return _too_few(rule, pd.concat([rows, tried]))
    found = sorted(rows[rule.field].dropna().unique())
    if rule.only and (other := [value for value in found if value not in rule.only]):
        return f"found {_listed(rule, other)}"
    if missing := [value for value in rule.include if value not in found]:
        return f"{_listed(rule, missing)} is missing"
    if rule.one_for:
        counts = rows.groupby(rule.one_for)[rule.field].nunique()
        if several := [str(name) for name, count in counts.items() if count > 1]:
            return f"several for {', '.join(several)}"
    if rule.between:
        lowest, highest = rule.between
        found = [value for value in found if lowest <= value <= highest]
    if len(found) < rule.at_least:
        return f"found {_listed(rule, found) or 'none'}"
    return ""


def _too_few(rule: Rule, rows: pd.DataFrame) -> str:
    counts = rows.groupby(rule.tried_by)[rule.field].nunique()
    too_few = [f"{count} for {name}" for name, count in counts.items() if count < rule.at_least]
    return ", ".join(too_few)


def _listed(rule: Rule, values: Sequence) -> str:
    return ", ".join(words(rule.field, value) for value in values)
