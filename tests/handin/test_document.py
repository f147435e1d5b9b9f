"""The PDF: text is data, and equal data give equal bytes."""

import os
import subprocess
import sys

import pytest

from eml.errors import UserError
from eml.handin import archive
from eml.handin.content import compose
from eml.handin.handin import image_name
from support.commands import ROOT
from support.handins import handin

NAMES = [
    "#panic() $x$ @ref <label> \\ \"q\" 'q' `raw` *b* _i_ ~ // c /* c */ [x]",
    "Jürgen Müßig",
    "محمد",
    "Ada 😀",
]


def pdf_of(made) -> bytes:
    return archive.build(made)[f"{made.form.sheet.file}.pdf"]


def texts_of(change):
    """A change of the discussion of sheet 2's first figure."""

    def set_text(form):
        form["exercise"]["2.2"]["mlp_numpy"]["loss_over_epochs"]["discussion"] = change

    return set_text


def test_markup_in_names_and_texts_stays_text(tmp_path):
    made = handin(
        "ex2-2025",
        tmp_path,
        lambda form: form.update(names=NAMES, group="#let x = 1"),
        texts_of("\n\n".join(["<b>no HTML</b> #panic() $1/0$ @x", *NAMES])),
    )
    document = compose(made)
    assert document["names"] == NAMES
    assert "<b>no HTML</b> #panic() $1/0$ @x" in repr(document)
    assert pdf_of(made).startswith(b"%PDF")


def test_a_letter_without_glyph_is_named(tmp_path):
    made = handin("ex2-2025", tmp_path, lambda form: form.update(names=["字"]))
    with pytest.raises(UserError, match=r"PDF cannot be made: .*the text .*字.* could not be"):
        pdf_of(made)


def test_markdown_is_typeset(tmp_path):
    (tmp_path / "a.png").write_bytes((ROOT / "docs/images/lr_sweep.png").read_bytes())
    text = (
        "# Title\n\nA *b* **c** `d` [e](https://f.g) h  \ni\n\n- j\n  - k\n\n3. l\n\n> m\n\n---\n\n"
        "```\nn\n```\n\n| o | p |\n|---|---|\n| q | r |\n\n![s](a.png)\n"
    )
    made = handin("ex2-2025", tmp_path, texts_of(text))
    assert pdf_of(made).startswith(b"%PDF")
    assert made.files.keys() == {"a.png"}


def test_no_image_is_written_outside_of_the_folder_of_the_typesetter(tmp_path):
    made = handin("ex2-2025", tmp_path, texts_of("![a stranger's](../../a.png)"))
    made.read = lambda path: b""
    compose(made)
    assert "/" not in image_name("../../a.png")
    assert made.files.keys() == {"../../a.png"}


def test_an_image_that_is_none_is_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="the PDF cannot be made"):
        pdf_of(handin("ex2-2025", tmp_path, texts_of("![x](a.png)")))


def test_numbers_in_texts_come_from_the_runs(tmp_path):
    text = "At most {{ mlp_numpy.best_test_accuracy }}, in epoch {{mlp_numpy.best_epoch}}."
    made = handin("ex2-2025", tmp_path, texts_of(text))
    figure, *_ = compose(made)["answers"][1]["results"]
    (paragraph,) = figure["discussion"]
    (inline,) = paragraph["children"]
    assert inline["children"][0]["text"] == "At most 98.00\N{NO-BREAK SPACE}%, in epoch 30."
    printed = made.numbers["mlp_numpy.best_test_accuracy"]
    assert (printed.value, printed.runs) == (0.98, ("1" * 32,))


# What a process elsewhere makes of the same hand-in.
ELSEWHERE = """
import hashlib, sys
from pathlib import Path
from support.handins import handin
from eml.handin import archive
made = handin("ex3-2025", Path(sys.argv[1]))
files = archive.build(made)
data = archive.write(made, files)
print(hashlib.sha256(files["ex3.pdf"]).hexdigest(), hashlib.sha256(data).hexdigest())
"""


@pytest.mark.slow
def test_equal_data_give_equal_bytes_in_another_folder_user_locale_and_zone(tmp_path):
    digests = set()
    for folder, language, zone in (("x", "C", "UTC"), ("für ü", "C.UTF-8", "Asia/Tokyo")):
        (tmp_path / folder).mkdir()
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        variables = {"LC_ALL": language, "LANG": language, "TZ": zone, "USER": folder}
        variables |= {"HOME": str(tmp_path / folder), "PYTHONHASHSEED": str(len(folder))}
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, str(tmp_path / folder)],
            env={**os.environ, **variables, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1
