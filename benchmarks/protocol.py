"""Plays the search of `optimizers` on recorded trainings, and writes what it loses into the docs.

    python benchmarks/protocol.py            writes the table of docs/optimizers.md
    python benchmarks/protocol.py --check    exit code 1 if the table there is another one

The first line of curves.csv.xz says what was recorded. A play is one choice by eml's own code; the
plays are all combinations of the seeds that each rate was trained with, and of the held-out images.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pandas as pd

from eml.analysis.curves import CHANCE, Training
from eml.config import AUTO, Config
from eml.recipes.optimizers import Options, configs
from eml.sweeps.search import choose

DOCUMENT = Path(__file__).parents[1] / "docs/optimizers.md"
BEGIN, END = "<!-- benchmarks/protocol.py -->\n", "<!-- end -->\n"
EPOCHS, LOT = 30, 500  # of a recorded training; held-out images that one accuracy comes from
GRIDS = {"own, 4": AUTO, "one for all, 5": "0.1,0.03,0.01,0.003,0.001"}
COLUMNS = (((4500,), 500), ((4500,), 5000), ((22500, 45000), 5000))  # trained, held-out images


def recorded() -> dict[tuple[int, str, float], list[np.ndarray]]:
    """By images, optimizer and rate: a curve for each seed, (epochs, 11), on ten LOTs and the test.

    Without those that ended early and did not diverge. The row of a divergence is NaN.
    """
    rows = pd.read_csv(Path(__file__).with_name("curves.csv.xz"), skiprows=1)
    curves: dict[tuple[int, str, float], list[np.ndarray]] = {}
    for (*key, _), part in rows.groupby(["images", "optimizer", "rate", "seed"]):
        curve = part.loc[:, "lot_1":].to_numpy()
        if len(curve) == EPOCHS or np.isnan(curve[-1, 0]):
            curves.setdefault(tuple(key), []).append(curve)
    return curves


CURVES = recorded()


def truth(curve: np.ndarray) -> float:
    """Accuracy in epochs 28 to 30, mean of held-out and test images; chance if it diverged."""
    last = curve[27:30]
    return float(last[:, :-1].mean() + last[:, -1].mean()) / 2 if len(last) else CHANCE


def training(config: Config, curve: np.ndarray, lots: np.ndarray) -> Training:
    """The first epochs of a curve, as eml reads a training back from the store."""
    means = curve[: config.epochs, lots].mean(axis=1).round(4)  # equal counts are equal numbers
    accuracies = np.array([CHANCE, *means])
    points = {"epoch": np.arange(len(accuracies)), "validation_accuracy": accuracies}
    points["train_loss"] = accuracies  # NaN in the same epoch, which is all that counts
    return Training(vars(config), points)


def losses(grid: Sequence[Config], images: int) -> Iterator[float]:
    """What each play loses against the best rate recorded, in points; no plays below two rates."""
    name, held = grid[0].optimizer, grid[0].validation
    curves = {rate: CURVES[n, o, rate] for n, o, rate in CURVES if (n, o) == (images, name)}
    truths = {rate: np.mean([truth(curve) for curve in curves[rate]]) for rate in curves}
    tried = [config for config in grid if config.learning_rate in curves]
    for lots in np.arange(10).reshape(-1, held // LOT) if len(tried) > 1 else ():
        seeds = ([training(c, curve, lots) for curve in curves[c.learning_rate]] for c in tried)
        for trained in product(*seeds):
            chosen = choose(grid, dict(zip(tried, trained, strict=True))).chosen
            reached = truths[chosen.learning_rate] if chosen else CHANCE
            yield 100 * float(max(truths.values()) - reached)


def cell(lrs: str, epochs: int, sizes: Sequence[int], held: int) -> str:
    """Mean and, in brackets, largest loss; each optimizer and number of images counts the same."""
    if lrs != AUTO and sizes != (4500,):
        return ""  # most rates of the one grid were not trained on more images
    asked = Options(
        optimizers="sgd,momentum,adam,rmsprop",
        lrs=lrs,
        search_epochs=epochs,
        subset=10 * held,
        device="cpu",
    )
    grids = [list(grid) for _, grid in groupby(configs(asked), lambda config: config.optimizer)]
    played = [list(losses(grid, images)) for grid, images in product(grids, sizes)]
    played = [lost for lost in played if lost]
    return f"{np.mean([np.mean(lost) for lost in played]):.1f} ({max(map(max, played)):.1f})"


def table() -> str:
    """The table in Markdown."""
    sizes = (" and ".join(f"{images:,}" for images in column[0]) for column in COLUMNS)
    heads = [f"{n} images, {held:,} held out" for n, (_, held) in zip(sizes, COLUMNS, strict=True)]
    lines = [["rates of each", "search epochs", "cost", *heads], ["---"] * 6]
    for (grid, lrs), epochs in product(GRIDS.items(), (3, 6, 8, 15, EPOCHS)):
        cost = f"{100 * int(grid[-1]) * epochs / (4 * EPOCHS):.0f} %"
        lines.append([grid, str(epochs), cost, *(cell(lrs, epochs, *column) for column in COLUMNS)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Write the table between its marks, or check it."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    old, after = rest.split(END)
    new = table()
    if "--check" not in sys.argv:
        DOCUMENT.write_text(before + BEGIN + new + END + after, encoding="utf-8")
    elif old != new:
        sys.exit(f"{DOCUMENT.name}: not what {Path(__file__).name} writes; run it:\n{new}")


if __name__ == "__main__":
    main()
