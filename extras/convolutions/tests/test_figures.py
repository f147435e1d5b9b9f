"""Figures and tables of measurements of which some are missing."""

import pandas as pd

from figures import write_figures
from measure import PASSES

COLUMNS = ["layer", "algorithm", "pass_name", "batch_size"]
VALUES = {
    "seconds": 0.5,
    "seconds_low": 0.4,
    "seconds_high": 0.6,
    "gflop_per_second": 100.0,
    "share_of_gemm": 0.9,
    "extra_bytes": 2**20,
    "error": 1e-7,
    "hardware": "h",
    "threads": "2",
}


def test_the_table_keeps_the_order_of_algorithms_and_passes(tmp_path):
    keys = [("a", name, pass_, 1) for name in ("direct", "lazy", "fft") for pass_ in PASSES]
    keys += [("a", "lazy", "filter_gradient", 2), ("a", "fft", "forward", 2)]
    keys += [("a", "direct", "filter_gradient", 2)]
    frame = pd.DataFrame(keys, columns=COLUMNS).assign(**VALUES)
    lines = write_figures(frame, tmp_path).splitlines()
    titles, _, *rows = [line.split(" | ") for line in lines if line.startswith("|")]
    assert titles[1::3] == ["forward", "data gradient", "filter gradient", "largest error |"]
    assert [row[0] for row in rows] == ["| direct", "| lazy", "| fft"]
    assert rows[0][1:7] == ["", "", "", "", "", ""]
    assert rows[0][7:10] == ["100 (90%)", "500", "1.0"]
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".csv", ".md", *[".png"] * 3]
