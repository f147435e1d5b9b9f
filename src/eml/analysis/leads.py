"""Which curve leads when, over the epochs or over the training time."""

from collections.abc import Sequence

import pandas as pd

from eml.analysis.curves import Curve, over_seeds


def leaders(drawn: Sequence[Curve], x: str, metric: str) -> pd.Series:
    """By x, the number of the curve with the highest mean so far; empty without common values.

    x: "epoch" or "train_seconds", in which a curve keeps its last value. Before training no curve
    leads. Of equal curves the one that led before goes on leading.
    """
    tables = [over_seeds(curve, x, metric) for curve in drawn]
    columns = {
        number: table.set_index("x")["mean"].groupby(level=0).last()
        for number, table in enumerate(tables)
        if len(table)
    }
    values = pd.DataFrame(columns).sort_index().ffill()
    values = values[values.index > 0].dropna(how="all")
    found, leader = [], -1
    for _, row in values.iterrows():
        if leader < 0 or not row[leader] >= row.max():
            leader = int(row.idxmax())
        found.append(leader)
    return pd.Series(found, index=values.index, dtype=int)


def leads_to_the_end(leading: pd.Series) -> float:
    """The x from which the last leader leads without a break."""
    others = leading.index[leading != leading.iloc[-1]]
    return float(leading.index[leading.index > others[-1]][0] if len(others) else leading.index[0])
