"""What a recipe leaves in its run when all is trained: its figures and a summary."""

from functools import partial
from pathlib import Path

import pandas as pd

from eml.compare import summary
from eml.figures import accuracy, losses

OF_ONE_TRAINING = {
    "loss_over_epochs": losses,
    "test_accuracy_over_epochs": partial(accuracy, x="epoch"),
}
FIGURES = {
    "mlp_numpy": OF_ONE_TRAINING,
    "lr_sweep": {"test_accuracy_over_epochs": partial(accuracy, x="epoch")},
    "mlp_torch": OF_ONE_TRAINING,
    "cpu_vs_gpu": {
        "test_accuracy_over_train_seconds": partial(accuracy, x="train_seconds"),
        "test_accuracy_over_epochs": partial(accuracy, x="epoch"),
    },
    "cifar_mlp": OF_ONE_TRAINING,
    "cifar_cnn": OF_ONE_TRAINING,
    "main": {},
}


def write_report(recipe: str, history: pd.DataFrame, folder: Path) -> str:
    """Write the recipe's figures (PNG) and a summary (CSV, Markdown) into `folder`.

    Returns the summary in Markdown.
    """
    for name, draw in FIGURES[recipe].items():
        draw(history).savefig(folder / f"{name}.png", dpi=150)
    table = summary(history)
    table.to_csv(folder / "summary.csv", index=False)
    text = markdown(table)
    (folder / "summary.md").write_text(text)
    return text


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, its columns aligned; fractions with four digits."""
    rows = [list(table.columns)]
    for row in table.itertuples(index=False):
        rows.append([_cell(value) for value in row])
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    rows.insert(1, ["-" * width for width in widths])
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "".join(f"| {line} |\n" for line in lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if pd.isna(value) else f"{value:.4g}"
