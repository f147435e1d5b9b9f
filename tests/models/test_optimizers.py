"""The table of optimizers against the measurements that docs/optimizers.md reports."""

import math
import re
from itertools import pairwise

import pytest

from eml.models.optimizers import OPTIMIZERS
from support.commands import ROOT

DOCS = (ROOT / "docs/optimizers.md").read_text()
NOT_THE_BEST = {("cnn", "momentum"): 0.01}  # the text above the tables says why


def chosen_rates() -> dict[tuple[str, str], float]:
    """The rate whose accuracy is bold, by model and optimizer."""
    rates = {}
    for model, table in zip(
        ("cnn", "mlp"), re.findall(r"^\| optimizer .+\n(?:\|.+\n)+", DOCS, re.M), strict=True
    ):
        header, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
        ]
        for name, *accuracies in rows:
            (bold,) = [r for r, a in zip(header[1:], accuracies, strict=True) if "**" in a]
            rates[model, name] = float(bold)
    return rates


def test_the_default_rates_are_those_of_the_documented_search():
    assert chosen_rates() | NOT_THE_BEST == {
        (model, name): rate
        for name, row in OPTIMIZERS.items()
        for model, rate in row.learning_rate.items()
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_search_tries_four_rates_half_a_decade_apart_from_the_documented_one(name):
    highest = re.search(rf"`auto`: four from .*?\b({name}\b.*?|the others) ([0-9.]+)", DOCS)
    searched = OPTIMIZERS[name].searched
    assert len(searched) == 4
    assert searched[0] == float(highest[2])
    for higher, lower in pairwise(searched):
        assert higher / lower == pytest.approx(math.sqrt(10), rel=0.06)
