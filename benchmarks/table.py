"""What was measured, as rows: for people as Markdown and a bar chart, for programs as CSV.

A folder of results holds those of several processors side by side: what is measured again on the
same processor replaces what was there, the rest stays.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.turns import Ratio, ratio
from eml.analysis.tables import markdown


@dataclass(frozen=True)
class Machine:
    """What the seconds depend on besides the code."""

    processor: str
    threads: int
    instructions: str  # the widest of the processor that matter here
    blas: str  # of NumPy and of PyTorch
    software: str
    day: str

    def __str__(self) -> str:
        return (
            f"{self.processor}, {self.threads} threads, {self.instructions}; {self.blas}; "
            f"{self.software}; {self.day}"
        )


@dataclass(frozen=True)
class Row:
    """One way of doing something, in seconds, and how it compares with the group's reference."""

    group: str
    way: str
    median: float
    lowest: float
    highest: float
    times: int
    ratio: float  # the median over the turns of its time to the reference's
    ratio_lowest: float
    ratio_highest: float


@dataclass(frozen=True)
class Target:
    """A number that was promised, and the one that was measured."""

    what: str
    measured: float
    lowest: float
    highest: float
    bound: float
    at_least: bool  # else at most

    @property
    def verdict(self) -> str:
        """Whether it is met, where the spread of the turns does not contain the bound."""
        if self.lowest < self.bound < self.highest:
            return "open: the spread contains it"
        return "met" if (self.measured >= self.bound) == self.at_least else "not met"


def target(what: str, measured: Ratio | float, bound: float, at_least: bool = False) -> Target:
    """A target for a ratio, or for a number measured once."""
    spread = measured if isinstance(measured, Ratio) else Ratio(*[measured] * 3)
    return Target(what, *spread, bound, at_least)


def rows(group: str, seconds: dict[str, list[float]], reference: str) -> list[Row]:
    """A row for each way that was measured in turn."""
    return [
        Row(
            group,
            way,
            *(median(taken), min(taken), max(taken)),
            len(taken),
            *ratio(taken, seconds[reference]),
        )
        for way, taken in seconds.items()
    ]


def write(folder: Path, machine: Machine, table: Sequence[Row], targets: Sequence[Target]) -> str:
    """Write results.md, results.csv, targets.csv and results.png; return the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = pd.DataFrame(asdict(machine) | asdict(row) for row in table)
    promised = pd.DataFrame(asdict(machine) | asdict(t) | {"verdict": t.verdict} for t in targets)
    measured = _merge(folder / "results.csv", measured, ["group", "way"])
    promised = _merge(folder / "targets.csv", promised, ["what"])
    report = text(measured, promised)
    (folder / "results.md").write_text(report, encoding="utf-8")
    chart(measured).savefig(folder / "results.png", dpi=150)
    return report


def _merge(file: Path, new: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The rows of a file and the new ones, which replace those of the same machine; written."""
    if file.exists():
        new = pd.concat([pd.read_csv(file), new])
    if len(new):
        new = new.drop_duplicates(["processor", "threads", *keys], keep="last")
        new.to_csv(file, index=False)
    return new


def text(measured: pd.DataFrame, promised: pd.DataFrame) -> str:
    """All of it in Markdown, the processors side by side."""
    names = [field.name for field in fields(Machine)]
    facts = [
        f"{Machine(*part[names].iloc[-1])}; {part['times'].max()} turns"
        for _, part in measured.groupby(["processor", "threads"], sort=False)
    ]
    facts.append(
        "Medians of measurements in turn, but of 30 epochs, which are trained once. The ratio is "
        "to the first row of the group, in brackets its spread over the turns."
    )
    cells = pd.DataFrame(
        {
            "": measured["group"],
            "way": measured["way"],
            "seconds": [f"{row.median:.3g}" for row in measured.itertuples()],
            "ratio": [
                f"{row.ratio:.2f} ({row.ratio_lowest:.2f} to {row.ratio_highest:.2f})"
                for row in measured.itertuples()
            ],
            "on": _machines(measured),
        }
    )
    parts = [
        "\n\n".join(facts) + "\n",
        markdown(_side_by_side(cells, ["", "way"]).to_dict("records")),
    ]
    if len(promised):
        lines = pd.DataFrame(
            {
                "target": promised["what"],
                "wanted": [
                    f"{'at least' if row.at_least else 'at most'} {row.bound:g}"
                    for row in promised.itertuples()
                ],
                "measured": [
                    f"{row.measured:.3g} ({row.lowest:.3g} to {row.highest:.3g}): {row.verdict}"
                    for row in promised.itertuples()
                ],
                "on": _machines(promised),
            }
        )
        parts.append(markdown(_side_by_side(lines, ["target", "wanted"]).to_dict("records")))
    return "\n".join(parts)


def _machines(frame: pd.DataFrame) -> pd.Series:
    """The processor and the threads of each row."""
    return frame["processor"] + ", " + frame["threads"].astype(str) + " threads"


def _side_by_side(shown: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row for each of the keys, and the other columns once for each machine."""
    table = shown[keys].drop_duplicates()
    # One machine may lack what another has measured, so rows of a group may lie apart.
    places = {group: place for place, group in enumerate(table[keys[0]].unique())}
    table = table.sort_values(keys[0], key=lambda groups: groups.map(places), kind="stable")
    for machine, part in shown.groupby("on", sort=False):
        part = part.drop(columns="on").set_index(keys).add_suffix(f", {machine}")
        table = table.join(part, on=keys)
    table = table.fillna("")
    table[keys[0]] = table[keys[0]].where(~table[keys[0]].duplicated(), "")
    return table


def chart(measured: pd.DataFrame) -> Figure:
    """A bar for each way, its spread as a line: groups below, processors beside each other."""
    measured = measured.assign(on=_machines(measured))
    machines = list(measured["on"].unique())
    groups = list(measured.groupby("group", sort=False))
    heights = [members["way"].nunique() + 2.5 for _, members in groups]
    down, across = len(groups), len(machines)
    figure = Figure(figsize=(4 + 4 * across, 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey="row", height_ratios=heights)
    for row, (group, members) in zip(panels, groups, strict=True):
        names = list(members["way"].unique())[::-1]  # the first at the top
        colours = ["#D55E00" if name.startswith("eml") else "#0072B2" for name in names]
        for axes, machine in zip(row, machines, strict=True):
            # NaN, and so no bar, where this machine has not measured a way.
            values = members[members["on"] == machine].set_index("way").reindex(names)
            spread = [values["median"] - values["lowest"], values["highest"] - values["median"]]
            bars = axes.barh(names, values["median"], xerr=spread, color=colours)
            labels = ["" if pd.isna(s) else f" {s:.3g} s" for s in values["median"]]
            axes.bar_label(bars, labels, fontsize="small", padding=2)
            where = machine if values["median"].notna().any() else f"{machine}: not measured"
            axes.set_title(f"{group}\n{where}", loc="left", fontsize="medium")
            axes.margins(x=0.2)
            axes.set_xlim(left=0)
            axes.set_xticks([])
            axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure
