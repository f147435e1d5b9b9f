"""Each measured number of the review, README.md, against the measurements in results/."""

import re
from pathlib import Path

import pandas as pd

from measure import PASSES

PROJECT = Path(__file__).parents[1]
REVIEW = (PROJECT / "README.md").read_text()
ALL = pd.read_csv(PROJECT / "results/convolutions.csv")
LARGEST = ALL[ALL["batch_size"] == 256].set_index(["layer", "algorithm", "pass_name"])


def cells() -> dict[tuple[str, str, str], str]:
    """The table's cells by layer, algorithm and pass."""
    rows = re.findall(r"^\| (conv\d) \| ([^|]+) \|(.*)\|$", REVIEW, re.MULTILINE)
    return {
        (layer, algorithm, name): cell.strip()
        for layer, algorithm, rest in rows
        for name, cell in zip(PASSES, rest.split("|"), strict=True)
        if cell.strip()
    }


def test_the_table_is_what_was_measured():
    expected = {}
    for key, row in LARGEST.iterrows():
        known = row["extra_bytes"] == row["extra_bytes"]
        memory = f" ({row['extra_bytes'] / 2**20:.1f})" if known else ""
        expected[key] = f"{row['gflop_per_second']:.3g}{memory}"
    assert cells() == expected


def test_the_text_repeats_the_table_or_follows_from_it():
    section = REVIEW.partition("## Measured")[2].partition("## Weaknesses")[0]
    text = " ".join(re.sub(r"^\|.*$", "", section, flags=re.MULTILINE).split())
    rate = LARGEST["gflop_per_second"].unstack("algorithm")
    memory = LARGEST["extra_bytes"].unstack("algorithm") / 2**20
    share = LARGEST["share_of_gemm"].unstack("algorithm")
    forward = ("conv3", "forward")
    assert (
        f"stores {memory['explicit'][forward]:.1f} MiB for conv3, lazy lowering a tile of "
        f"{memory['lazy'][forward]:.1f} MiB" in text
    )
    ratio = rate["lazy"] / rate["explicit"]
    assert ratio.min() > 1
    assert f"by a factor of {ratio.min():.2f} to {ratio.max():.2f}" in text
    alone = share.loc["conv1", "product alone"]
    assert f"reaches {alone.min():.0%} to {alone.max():.0%}".replace("% to", " to") in text.replace(
        " %", "%"
    )
    assert (
        f"reaches {rate['winograd'][forward]:.0f} GFLOP/s, counted in the operations that it "
        f"saves, and FFT {rate['fft'][forward]:.0f}, with {memory['winograd'][forward]:.1f} and "
        f"{memory['fft'][forward]:.1f} MiB" in text
    )
    passes_of_conv1 = rate.loc["conv1"]
    slowest = passes_of_conv1[["explicit", "lazy", "slow_conv2d"]].min(axis=1)
    assert (passes_of_conv1[["fft", "winograd"]].max(axis=1) < slowest).all()
    # "reaches the product alone" in the forward pass, and stays below in the data gradient
    to_alone = (rate["lazy"] / rate["product alone"]).unstack("pass_name")
    assert (to_alone["forward"] > 0.99).all()
    assert (to_alone["data_gradient"] < 0.95).all()


def test_one_image():
    one = ALL[ALL["batch_size"] == 1].pivot_table(
        index=["layer", "pass_name"], columns="algorithm", values="gflop_per_second"
    )
    assert (one["lazy"] > one[["fft", "winograd"]].max(axis=1)).all()
