"""The pages of the PDF: no text leaves its page or lies on another; printed commands work."""

import shlex
from dataclasses import fields
from itertools import combinations

import pypdfium2
import pytest

from eml.commands.launch import recipe_command
from eml.handin import archive
from eml.handin.content import broken
from eml.recipes import RECIPES
from eml.tracking import find
from support.commands import run_here
from support.handins import evidence, handin, lr_sweep

LONG = "eml lr_sweep --lrs " + ",".join(f"0.{n}" for n in range(100, 140)) + " --stores 'a b/c'"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The boxes of all pieces of text (left, bottom, right, top), by page, and the page sizes."""
    runs = [
        rows.assign(run_id=f"{number:08x}" + "0" * 24, seed=seed, command=LONG)
        for seed in range(20)
        for number, rows in enumerate(lr_sweep(seed=seed), start=5 * seed)
    ]
    made = handin("ex2-2025", tmp_path_factory.mktemp("x"), of={"lr_sweep": evidence(*runs)})
    return of_pdf(archive.build(made)["ex2.pdf"])


def of_pdf(content):
    """What `pages` has, of any PDF."""
    pdf = pypdfium2.PdfDocument(content)
    texts = [page.get_textpage() for page in pdf]
    boxes = [[text.get_rect(i) for i in range(text.count_rects())] for text in texts]
    everything = "".join(text.get_text_bounded() for text in texts)
    return boxes, [page.get_size() for page in pdf], everything


def assert_inside(pages, sizes):
    for boxes, (width, height) in zip(pages, sizes, strict=True):
        for left, bottom, right, top in boxes:
            assert 0 < left <= right < width
            assert 0 < bottom <= top < height


def test_no_text_is_outside_of_its_page(pages):
    assert_inside(*pages[:2])


def test_no_text_lies_on_another(pages):
    """Also in a table of a hundred runs, which breaks over pages."""
    boxes, _, text = pages
    assert all(f"{number:08x}" in text for number in range(100))
    for page in boxes:
        for (l1, b1, r1, t1), (l2, b2, r2, t2) in combinations(page, 2):
            common = max(0, min(r1, r2) - max(l1, l2)) * max(0, min(t1, t2) - max(b1, b2))
            smaller = min((r1 - l1) * (t1 - b1), (r2 - l2) * (t2 - b2))
            assert common <= 0.2 * smaller


LETTERS = ["größer", "λ → ∂", "tab\t|", "\x0c", "\u202eleft", "e\u0301"]
WIDE = ["# " + "a long comment " * 20, "    " * 30 + "return x"]


@pytest.mark.parametrize(
    "lines",
    [
        [*LETTERS, *WIDE],
        ["字", "🙂", "\x1b[2J"],
        ["x" * 200],
    ],
    ids=["letters", "missing letters", "a long word"],
)
def test_own_code_of_any_letters_and_lines_is_printed_on_its_pages(lines, tmp_path):
    made = handin("ex2-2025", tmp_path)
    text = "\n# ".join(["a = 1", *lines]) + "\nthe_end = 1"
    made.own_code["own_code/0123abcd/own.py"] = text.encode()
    boxes, sizes, text = of_pdf(archive.build(made)["ex2.pdf"])
    assert "own.py" in text
    assert "the_end = 1" in text
    assert_inside(boxes, sizes)


def test_a_long_command_is_broken_into_lines_that_a_shell_joins():
    text = broken(LONG)
    assert max(map(len, text.splitlines())) < 100 or len(LONG.split()[3]) > 100
    assert shlex.split(text.replace("\\\n", "")) == shlex.split(LONG)


def test_a_printed_command_gives_the_same_trainings(small_data, store):
    given = ("--epochs", "1", "--lrs", "1,0.5,0.1,0.05,0.02", "--seeds", "1,2", "--subset", "100")
    assert run_here("lr_sweep", *given).returncode == 0
    runs = find.search({"recipe": "mlp_numpy"})
    (command,) = {run.tags["command"] for run in runs}
    recipe = RECIPES["lr_sweep"]
    words = shlex.split(broken(command).replace("\\\n", ""))
    parsed = recipe_command(recipe).make_context("lr_sweep", words[2:]).params
    options = recipe.options(**{f.name: parsed[f.name] for f in fields(recipe.options)})
    assert {run.config for run in runs} == set(recipe.configs(options))
