"""What was measured, as rows: for people as Markdown and a bar chart, for programs as CSV."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.turns import ratio
from eml.analysis.tables import markdown


@dataclass(frozen=True)
class Row:
    """One way of doing something, in seconds, and how it compares with the reference's."""

    group: str
    way: str
    median: float
    lowest: float
    highest: float
    times: int
    to_reference: float  # the median over the turns of its time to the reference's


@dataclass(frozen=True)
class Target:
    """A number that was promised, and the one that was measured."""

    what: str
    measured: float
    bound: float
    at_least: bool  # else at most

    @property
    def met(self) -> bool:
        if self.at_least:
            return self.measured >= self.bound
        return self.measured <= self.bound


def rows(group: str, seconds: dict[str, list[float]], reference: str) -> list[Row]:
    """A row for each way that was measured in turn."""
    return [
        Row(
            group,
            way,
            median(taken),
            min(taken),
            max(taken),
            len(taken),
            ratio(taken, seconds[reference]),
        )
        for way, taken in seconds.items()
    ]


def text(table: Sequence[Row], targets: Sequence[Target], facts: Sequence[str]) -> str:
    """All of it in Markdown."""
    shown = pd.DataFrame(
        {
            "": row.group if index == 0 or table[index - 1].group != row.group else "",
            "way": row.way,
            "seconds": f"{row.median:.3g}",
            "lowest to highest": f"{row.lowest:.3g} to {row.highest:.3g}",
            "ratio": f"{row.to_reference:.2f}",
        }
        for index, row in enumerate(table)
    )
    promised = pd.DataFrame(
        {
            "target": target.what,
            "wanted": f"{'at least' if target.at_least else 'at most'} {target.bound:g}",
            "measured": f"{target.measured:.3g}",
            "": "met" if target.met else "not met",
        }
        for target in targets
    )
    parts = ["\n".join(facts) + "\n", markdown(shown)]
    if targets:
        parts.append(markdown(promised))
    return "\n".join(parts)


def write(folder: Path, table: Sequence[Row], targets: Sequence[Target], report: str) -> None:
    """results.md, results.csv, targets.csv and results.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(report, encoding="utf-8")
    pd.DataFrame(asdict(row) for row in table).to_csv(folder / "results.csv", index=False)
    promised = pd.DataFrame(asdict(target) | {"met": target.met} for target in targets)
    promised.to_csv(folder / "targets.csv", index=False)
    chart(table).savefig(folder / "results.png", dpi=150)


def chart(table: Sequence[Row]) -> Figure:
    """A bar for each way, its spread as a line, in a panel for each group."""
    groups: dict[str, list[Row]] = {}
    for row in table:
        groups.setdefault(row.group, []).append(row)
    heights = [len(members) + 1.5 for members in groups.values()]
    figure = Figure(figsize=(8, 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (group, members) in zip(panels, groups.items(), strict=True):
        ordered = sorted(members, key=lambda row: -row.median)
        middle = [row.median for row in ordered]
        spread = [
            [row.median - row.lowest for row in ordered],
            [row.highest - row.median for row in ordered],
        ]
        colours = ["#D55E00" if row.way.startswith("eml") else "#0072B2" for row in ordered]
        bars = axes.barh([row.way for row in ordered], middle, xerr=spread, color=colours)
        labels = [f" {row.median:.3g} s" for row in ordered]
        axes.bar_label(bars, labels, fontsize="small", padding=2)
        axes.set_title(group, loc="left", fontsize="medium")
        axes.margins(x=0.15)
        axes.set_xlim(left=0)
        axes.set_xticks([])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure
