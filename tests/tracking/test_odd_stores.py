"""Whatever a run of the store holds, `compare` draws or names it, and its neighbour is right."""

import dataclasses
import math
import random
import re
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pytest
import sqlalchemy
from hypothesis import strategies as st
from matplotlib.figure import Figure
from mlflow.entities import Metric, Param, RunTag

from eml.analysis.comparison import Comparison
from eml.analysis.figures import losses, over, sensitivity
from eml.analysis.report import write_report
from eml.analysis.summary import CurveSummary, summary
from eml.config import Config
from eml.recipes import RECIPES
from eml.tracking.history import METRICS, load_history
from eml.tracking.selection import Selection, SelectionError
from support.commands import config_of
from support.examples import for_all
from support.histories import figures_of

INFINITY = math.inf
BY_EPOCH = [metric for metric in METRICS if not metric.startswith("validation")]
GOOD = {
    "train_loss": [2.3, 1.5, 1.0],
    "train_accuracy": [0.1, 0.6, 0.8],
    "test_loss": [2.3, 1.4, 0.9],
    "test_accuracy": [0.1, 0.5, 0.7],
    "train_seconds": [0.0, 2.0, 4.0],
    "eval_seconds": [0.5, 1.0, 1.5],
    "wall_seconds": [1.0, 3.0, 6.0],
    "setup_seconds": [0.5, 0.5, 0.5],
    "images_per_second": [math.nan, 1000.0, 1000.0],
}
# Without an upper bound: in these a run may be as far off as it likes.
UNBOUNDED = [metric for metric in GOOD if not metric.endswith("accuracy")]
DRAWN = {
    f"{metric}_over_{x}": partial(over, x=x, metric=metric)
    for metric in ("test_accuracy", "test_loss")
    for x in ("epoch", "train_seconds", "wall_seconds")
}
TEXTS = [
    r"$\frac{$",
    "a_$",
    "$x^2$",
    r"\$",
    "^{",
    "%s",
    "_foo",
    "",
    " ",
    " sgd",
    "SGD|",
    "two\nlines\r\n",
    "\x1b[31mred\x1b[0m\a",
    "日本 \U0001f600 \u202eleft",
    "<b>&--",
    "nan",
    "1e400",
    "W" * 1000,
    "\x01" * 1000,
]


def add(client, *, name="", logged=None, points=(), tags=None, **params) -> str:
    """A finished training of two epochs, made by hand.

    logged: metrics in place of GOOD's, by epoch. points: more of them, as (metric, value, epoch).
    params: in place of a Config's; without those that are None.
    """
    experiment = client.get_experiment_by_name("test").experiment_id
    run_id = client.create_run(experiment, run_name=name or None).info.run_id
    config = config_of("mlp_torch", epochs=2, device="cpu")
    params = dataclasses.asdict(config) | {"parameters": 1000} | params
    every = [
        (metric, value, epoch)
        for metric, values in (GOOD | (logged or {})).items()
        for epoch, value in enumerate(values)
        if value is not None
    ]
    client.log_batch(
        run_id,
        [Metric(metric, value, 1000, epoch) for metric, value, epoch in (*every, *points)],
        [Param(key, str(value)) for key, value in params.items() if value is not None],
        [RunTag(*item) for item in ({"recipe": "mlp_torch"} | (tags or {})).items()],
    )
    client.set_terminated(run_id)
    return run_id


def load(*run_ids: str):
    return load_history(Selection(runs=run_ids))


def left_out(*run_ids: str) -> list[str]:
    """What is said of runs that are left out, without their ids, in their order."""
    _, lines = load(*run_ids)
    by_run = dict(reversed(line.removeprefix("left out, ").rsplit(": ", 1)) for line in lines)
    return [by_run.get(run_id, "") for run_id in run_ids]


def compared(folder: Path, run_ids, figures=DRAWN) -> tuple[str, dict]:
    """The Markdown that `compare` prints of these runs, and its summary by run."""
    history, _ = load(*run_ids)
    text = write_report(figures, Comparison(history), folder, [0.6])
    assert {file.suffix for file in folder.iterdir()} >= {".csv", ".md"}
    return text, {row.run_ids: row for row in summary(Comparison(history), [0.6])}


def is_right(row: CurveSummary) -> bool:
    """Whether a row of a summary has the numbers of GOOD."""
    return (
        (row.n, row.complete) == (1, 1)
        and row.final_accuracy == row.best_accuracy == 0.7
        and row.seconds.mean == 2
        and row.targets[0].first_touch == 2
        and not row.diverged + row.unfinished
    )


@pytest.fixture
def png_only(monkeypatch):
    """Drawing is slow, and what breaks a figure breaks it in every format."""
    save = Figure.savefig

    def savefig(figure, file, **options):
        if Path(file).suffix == ".png":
            save(figure, file, dpi=20)

    monkeypatch.setattr(Figure, "savefig", savefig)


def is_clean(text: str) -> bool:
    """Whether a line can be shown: short enough, nothing that moves a cursor."""
    return text.isprintable() and len(text) < 1500


def test_every_text_has_a_curve_of_its_own(store, tmp_path):
    good = add(store)
    odd = [add(store, optimizer=text, name=text, tags={"hardware": text}) for text in TEXTS]
    text, rows = compared(tmp_path, [good, *odd], figures_of("lr_sweep"))
    assert set(rows) == {good, *odd}
    assert all(map(is_right, rows.values()))
    assert len({row.curve for row in rows.values()}) == len(rows)
    assert all(map(is_clean, text.splitlines()))
    table = text[: text.index("\n\n")].splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_text_of_the_store_is_no_mathematics(store, tmp_path):
    names = ("model", "framework", "dataset", "device_type", "precision", "dtype", "optimizer")
    for text in (r"$\frac{$", "a_$", r"$x^2$ \$", "_foo"):
        alike = dict.fromkeys(names, text)
        runs = [add(store, **alike, learning_rate=rate) for rate in (0.1, 0.01)]
        runs.append(add(store, **alike | {"optimizer": "sgd"}))
        history, _ = load(*runs)
        for draw in (sensitivity, losses):
            with mpl.rc_context({"svg.fonttype": "none"}):
                draw(Comparison(history)).savefig(tmp_path / "drawn.svg")
            drawn = re.findall("<text [^>]*>([^<]*)</text>", (tmp_path / "drawn.svg").read_text())
            # Three in the title, three below it, and some in the legend.
            assert "".join(drawn).replace("&quot;", '"').count(text) >= 7


IMPROPER = {
    "epochs": ["abc", "-3", "0", "1e400", "2.5", "nan", "", "9" * 30, "9" * 5000, "٣x"],
    "validation": ["abc", "-1", "inf"],
    "batch_size": ["0", "64 images"],
    "seed": ["-1", str(2**64), "$1$"],
    "subset": ["all", "1e30"],
    "learning_rate": ["nan", "0", "-0.1", "inf", "auto", "1e-320", "1e300"],
    "momentum": ["nan", "-0.5", "\x1b[31m" + "9" * 4000],
}


def test_a_number_that_no_config_has_is_named(store):
    good = add(store)
    odd = {add(store, **{name: text}): name for name, texts in IMPROPER.items() for text in texts}
    good_said, *said = left_out(good, *odd)
    assert good_said == ""
    assert said[0] == "its epochs is no whole number from 1 to 1e+18 (abc)"
    for name, line in zip(odd.values(), said, strict=True):
        kind = "number" if name in ("learning_rate", "momentum") else "whole number"
        assert line.startswith(f"its {name} is no {kind} from ")
        assert is_clean(line)
    with pytest.raises(SelectionError, match="no training selected; left out, its epochs is no"):
        load(next(iter(odd)))


def test_numbers_count_however_they_were_typed(store):
    typed = {"epochs": "02", "learning_rate": "1e-1", "momentum": "0.90", "validation": "00"}
    as_typed, usual = add(store, seed="03", **typed), add(store, seed=4)
    history, lines = load(as_typed, usual)
    assert lines == []
    (row,) = summary(Comparison(history))
    assert (row.n, row.final_accuracy, row.curve) == (2, 0.7, "all runs")
    whole = add(store, seed=5, momentum="0", learning_rate="1", epochs="2.0")
    assert load(whole)[0][["momentum", "learning_rate", "epochs"]].iloc[0].tolist() == [0, 1, 2]


def test_an_odd_run_is_passed_over_for_the_newest_group(store):
    good = add(store)
    add(store, epochs="abc", tags={"recipe": "lr_sweep"})
    history, lines = load_history(Selection())
    assert (set(history["run_id"]), lines) == ({good}, [])


def test_an_infinite_score_is_a_diverged_epoch(store, tmp_path, png_only):
    good = add(store)
    odd = [
        add(store, seed=seed, learning_rate=seed, logged={metric: [*GOOD[metric][:2], value]})
        for seed, (metric, value) in enumerate(
            (metric, value)
            for metric in ("train_loss", "test_loss", "test_accuracy")
            for value in (INFINITY, -INFINITY, 1.7e308, -1.2e308)
        )
        if seed
    ]
    text, rows = compared(tmp_path, [good, *odd], figures_of("lr_sweep"))
    assert is_right(rows.pop(good))
    assert {row.complete for row in rows.values()} == {0}
    assert {re.sub("seed [0-9]+", "seed", row.diverged) for row in rows.values()} == {
        "seed in epoch 2"
    }
    assert set(rows) == set(odd)
    assert all(map(is_clean, text.splitlines()))


def test_an_infinite_score_on_the_way_is_a_gap_that_is_named(store, tmp_path, png_only):
    gap = {metric: [GOOD[metric][0], INFINITY, GOOD[metric][2]] for metric in GOOD}
    odd = add(store, logged=gap, name="odd")
    text, rows = compared(tmp_path, [odd], figures_of("mlp_torch"))
    assert rows[odd].final_accuracy == 0.7
    assert f"- only 2 of 3 epochs have an accuracy: odd, run {odd}\n" in text


def test_what_no_training_logs_is_named(store):
    logged = {
        "test_accuracy=1e+300": {"test_accuracy": [0.1, 1e300, 0.7]},
        "test_accuracy=-5": {"test_accuracy": [0.1, 0.5, -5]},
        "train_accuracy=1.01": {"train_accuracy": [1.01, 0.5, 0.5]},
        "test_loss=-0.1": {"test_loss": [2.3, 1, -0.1]},
        "train_seconds=-4": {"train_seconds": [0, 2, -4]},
    }
    points = {
        "epoch=1e+12": ("test_accuracy", 0.9, 10**12),
        "epoch=3": ("train_loss", 0.5, 3),
        "epoch=-1": ("train_loss", 5.0, -1),
        "epoch=9.22337e+18": ("test_accuracy", 0.9, 2**63 - 1),
    }
    good = add(store, seed=99)
    odd = [add(store, seed=n, logged=of) for n, of in enumerate(logged.values())]
    odd += [add(store, seed=50 + n, points=[of]) for n, of in enumerate(points.values())]
    assert left_out(good, *odd) == [
        "",
        *(f"no training of 2 epochs logs {what}" for what in (*logged, *points)),
    ]
    history, _ = load(good, *odd)
    assert [row.run_ids for row in summary(Comparison(history))] == [good]
    with pytest.raises(SelectionError, match=f"no training selected; left out, .*{odd[0]}"):
        load(odd[0])


def test_a_run_without_an_epoch_is_named(store):
    nothing = add(store, logged={metric: [] for metric in GOOD}, seed=3)
    assert left_out(add(store), nothing) == ["", "without an epoch"]
    with pytest.raises(SelectionError, match=f"left out, without an epoch: {nothing}"):
        load(nothing)


ABSURD = {
    "a loss of 1e300": {"logged": {"test_loss": [1e300, 1e300, 1], "train_loss": [1e300, 2, 1]}},
    "a loss of 1e-320": {"logged": {"test_loss": [1e-320] * 3, "train_loss": [0, 0, 1e-320]}},
    "seconds of 1e300": {"logged": {"train_seconds": [0, 1e300, 1e305]}},
    "seconds backwards": {"logged": {"train_seconds": [9, 5, 1]}},
    "infinite seconds": {"logged": {"train_seconds": [INFINITY] * 3, "wall_seconds": [0, 1]}},
    "no epoch 0": {"logged": {metric: [None, *GOOD[metric][1:]] for metric in GOOD}},
    "a gap": {"logged": {metric: [GOOD[metric][0], None, GOOD[metric][2]] for metric in GOOD}},
    "the last epoch alone": {"logged": {m: [None, None, GOOD[m][2]] for m in GOOD}},
    "one metric": {"logged": {m: [] for m in GOOD if m != "test_accuracy"}},
    "another metric": {"logged": {m: [] for m in GOOD if m != "setup_seconds"}},
    "no seconds": {"logged": {m: [] for m in GOOD if m.endswith("seconds")}},
    "scores in turns": {"logged": {"test_loss": [1], "test_accuracy": [None, 0.5, 0.7]}},
    "many epochs": {"epochs": 10**15, "points": [("test_accuracy", 0.9, 10**12)]},
    "tags named as columns": {
        "tags": dict.fromkeys((*METRICS, "epoch", "epochs", "run_id", "seed", "x", "count"), "9")
    },
    "parameters that are text": {"parameters": "$many"},
    "parameters without end": {"parameters": "9" * 400},
    "parameters as a tag": {"parameters": None, "tags": {"parameters": "some"}},
    "a parameter without end": {"lr": "9" * 400},
    "numbers as tags": {"hardware": "7", "dataset_digest": "nan", "git_commit": "1e5"},
    "a subset": {"subset": 10**18, "batch_size": 10**18},
    "a rate of 1e-90": {"learning_rate": "1e-90"},
    "a rate of 1e17": {"learning_rate": "1e17"},
    "a rate of 3": {"learning_rate": "3"},
    "validation": {"validation": 500},
}


def test_the_absurd_is_drawn_or_named(store, tmp_path, png_only):
    """A few beside an ordinary run, and all at once."""
    good = add(store)
    odd = {what: add(store, seed=3 + n, **of) for n, (what, of) in enumerate(ABSURD.items())}
    every = list(odd.values())
    for number, chosen in enumerate([*(every[start::4] for start in range(4)), every]):
        history, lines = load(good, *chosen)
        named = [odd["validation"]] if odd["validation"] in chosen else []
        assert set(history["run_id"]) == {good, *chosen} - set(named)
        assert lines == [f"left out, evaluated on validation images: {run}" for run in named]
        folder = tmp_path / str(number)
        folder.mkdir()
        # Not every figure of each: drawing is slow.
        compared(folder, [good, *chosen], dict([list(DRAWN.items())[number % len(DRAWN)]]))
        of_good = history[history["run_id"] == good]
        for metric in ("test_accuracy", "test_loss", "train_seconds"):
            assert of_good[metric].tolist() == GOOD[metric]
    rows = summary(Comparison(load(odd["a rate of 3"], good)[0]))
    assert [(row.n, row.final_accuracy) for row in rows] == [(1, 0.7)] * 2


@pytest.mark.parametrize("what", ["infinite seconds", "no seconds", "another metric"])
def test_a_curve_that_cannot_be_drawn_is_in_the_legend(what, store):
    good, odd = add(store), add(store, learning_rate=0.2, **ABSURD[what])
    figure = over(Comparison(load(good, odd)[0]), x="train_seconds")
    _, said = (text.get_text() for text in figure.legends[0].get_texts())
    assert said.startswith("learning rate 0.2")
    assert said.endswith(("(nothing to draw)", "(diverged in epoch 2)"))


def test_points_in_a_wrong_order(store):
    good, run_id = add(store), add(store, seed=3, logged={"test_accuracy": []})
    for epoch in (2, 0, 1):
        store.log_metric(run_id, "test_accuracy", GOOD["test_accuracy"][epoch], step=epoch)
    (row,) = summary(Comparison(load(good, run_id)[0]))
    assert (row.n, row.final_accuracy) == (2, 0.7)


def test_texts_that_look_the_same_when_cut_are_one_curve_once(store):
    texts = ["W" * 2000 + middle + "W" * 2000 for middle in "ab"]
    older, newer = (add(store, optimizer=text) for text in texts)
    history, lines = load(older, newer)
    assert [row.n for row in summary(Comparison(history))] == [1]
    assert lines == [f"left out, run again since with the same Config: {older}"]
    assert len(Comparison(history).curves[0].label) < 100


def test_messages_repeat_no_escapes(store):
    good = add(store)
    odd = add(store, seed=3, tags={"continued_in": "\x1b[2J" * 1500})
    _, (line,) = load(good, odd)
    assert is_clean(line)
    assert line.endswith(f": {odd}")


def random_run(rng: random.Random) -> dict:
    """Options of `add` for a run with one to four oddities."""
    options = {"logged": {}, "tags": {}, "points": []}
    number = ["abc", "-1", "0", "1e400", "nan", "7", "1e9", "0x10", "", "9" * 40, "\uff17"]
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(6)
        if kind == 0:
            field = rng.choice([f.name for f in dataclasses.fields(Config)])
            options[field] = rng.choice([*number, *TEXTS[:-2], random_text(rng)])
        elif kind == 1:
            metric = rng.choice(list(GOOD))
            values = [0, -1, 0.5, 1e300, 1e-320, INFINITY, -INFINITY, math.nan, None, 1e307, 1e9]
            options["logged"][metric] = [rng.choice(values) for _ in range(rng.randint(0, 3))]
        elif kind == 2:
            epochs = [-1, 0, 3, 1000, 10**12, 2**63 - 1]
            options["points"].append(
                (rng.choice(list(GOOD)), rng.choice([0.5, 1e300, -1]), rng.choice(epochs))
            )
        elif kind == 3:
            tags = [*METRICS, "epoch", "parameters", "hardware", "git_commit", "threads", "name"]
            options["tags"][rng.choice(tags)] = rng.choice([*number, random_text(rng)])
        elif kind == 4:
            options["parameters"] = rng.choice([*number, random_text(rng), None])
        else:
            options["name"] = random_text(rng)
    return options


def random_text(rng: random.Random) -> str:
    alphabet = "$\\_^{}%&#~|`*<>\"' \n\r\t\x00\x1b\x7f\u0301\u200b\u202e\ufffeé日\U0001f600aW1-="
    alphabet = alphabet.replace("\x00", "")  # PostgreSQL and MLflow's own client refuse it
    return "".join(rng.choices(alphabet, k=rng.choice([1, 3, 8, 30, 300])))


@pytest.mark.parametrize("examples", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_random_stores(examples, store, tmp_path, request):
    if examples == 8:
        request.getfixturevalue("png_only")

    def check(rng):
        good = add(store, seed=1)
        odd = [add(store, **{"seed": 2 + n} | random_run(rng)) for n in range(rng.randint(1, 4))]
        history, lines = load(good, *odd)
        assert all(map(is_clean, lines))
        for run_id in odd:
            assert (run_id in set(history["run_id"])) != any(run_id in line for line in lines)
        of_good = history[history["run_id"] == good]
        for metric in ("test_accuracy", "test_loss", "train_seconds"):
            assert of_good[metric].tolist() == GOOD[metric]
        figures = dict(rng.sample(sorted(DRAWN.items()), 1))
        if examples > 8:
            figures |= figures_of(rng.choice(list(RECIPES)))
        text, rows = compared(tmp_path, [good, *odd], figures)
        assert sum(good in run_ids for run_ids in rows) == 1
        assert good not in rows or is_right(rows[good])
        assert all(line.isprintable() for line in text.splitlines())

    for_all(examples, check, st.randoms(use_true_random=False))


@pytest.mark.slow
def test_a_run_with_100_000_points(store, tmp_path, png_only):
    points = 20_000
    nothing = {metric: [] for metric in GOOD}
    long, short = add(store, logged=nothing, epochs=points - 1), add(store, seed=2)
    rows = [
        {"key": metric, "value": 0.5, "timestamp": 1000 + step, "step": step, "run_uuid": long}
        for metric in list(GOOD)[:5]
        for step in range(points)
    ]
    insert = sqlalchemy.text(
        "INSERT INTO metrics (key, value, timestamp, step, run_uuid, is_nan) "
        "VALUES (:key, :value, :timestamp, :step, :run_uuid, 0)"
    )
    with store._tracking_client.store.engine.begin() as connection:
        connection.execute(insert, rows)
    history, lines = load(long, short)
    assert lines == []
    assert len(history[history["run_id"] == long]) == points
    text, _ = compared(tmp_path, [long, short])
    assert all(line.isprintable() for line in text.splitlines())
