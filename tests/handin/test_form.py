"""handin.toml: made from a sheet, and read with clear errors."""

import shlex

import pytest

from eml.errors import UserError
from eml.handin.form import expected, read_form, write_form
from eml.handin.sheet import load_sheet, sheet_names
from support.commands import run_here
from support.handins import form_of


@pytest.mark.parametrize("name", sheet_names())
def test_a_new_form_has_every_task_and_plot_of_its_sheet(name, tmp_path):
    file = tmp_path / "folder" / "handin.toml"
    write_form(file, name)
    form, sheet = read_form(file), load_sheet(name)
    assert list(form.exercise) == [exercise.number for exercise in sheet.exercises]
    for assignment in sheet.trainings:
        for figure in assignment.figures:
            texts = form.table(assignment.recipe)[figure]
            assert texts["expected"].strip() == texts["discussion"].strip() == ""
        hint = " ".join(
            line.removeprefix("# ") for line in file.read_text().splitlines() if line[:2] == "# "
        )
        assert f"Hint: {expected(assignment.of)}" in hint
    assert {table["present"] for table in form.exercise.values()} == {""}


# "Total: 58 points", "Total: 90 points"
@pytest.mark.parametrize(
    ("name", "points", "total"), [("ex2-2025", [5, 30], 58), ("ex3-2025", [15, 15, 20, 10], 90)]
)
def test_sheets_are_what_the_course_asks(name, points, total):
    sheet = load_sheet(name)
    assert [exercise.points for exercise in sheet.exercises] == points
    assert sum(points) + sheet.willingness_points == total
    assert (sheet.most_names, load_sheet("ex2-2024").most_names) == (4, 3)


def test_an_existing_form_stays_as_it_is(tmp_path):
    file = tmp_path / "handin.toml"
    file.write_text("mine")
    with pytest.raises(UserError, match=r"handin.toml exists and stays as it is: give another"):
        write_form(file, "ex2-2025")
    assert file.read_text() == "mine"


def put(*path_and_value):
    *path, key, value = path_and_value

    def change(form):
        table = form
        for name in path:
            table = table[name]
        if value is None:
            del table[key]
        else:
            table[key] = value

    return change


LOSS = ("exercise", "2.2", "mlp_numpy", "loss_over_epochs")
MISTAKES = {
    "unknown key": (
        put("authors", "me"),
        "takes no key authors, give sheet, names, group, date, steps, stores, exercise",
    ),
    "unknown exercise": (
        put("exercise", "2.9", {}),
        "exercise takes no key 2.9, give 2.1, 2.2",
    ),
    "no names": (
        put("names", None),
        "lacks names: give a list of texts",
    ),
    "not declared": (
        put("exercise", "2.2", "present", None),
        "exercise 2.2 lacks present: give true or false",
    ),
    "date as text": (put("date", "today"), "date is today: give a date, as 2025-11-12"),
    "a number": (put("names", [1]), r"names is \[1\]: give a list of texts"),
    "present": (
        put("exercise", "2.2", "present", "maybe"),
        "present is maybe: give true or false",
    ),
    "no table": (put("exercise", "2.2", "mlp_numpy", 3), "mlp_numpy is 3: give a table"),
    "text": (put(*LOSS, "expected", 3), "expected is 3: give a text"),
    "sheet": (put("sheet", "ex9"), "sheet=ex9: give one of ex2-2024"),
}


@pytest.mark.parametrize(("change", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_with_its_place(change, line, tmp_path):
    form_of("ex2-2025", tmp_path, change)
    with pytest.raises(UserError, match=line):
        read_form(tmp_path / "handin.toml")


@pytest.mark.parametrize("content", [b"names = [", b"\xff\xfe", b"[" * 3000])
def test_what_is_no_toml_is_one_line(content, tmp_path):
    file = tmp_path / "handin.toml"
    file.write_bytes(content)
    with pytest.raises(UserError, match="is not"):
        read_form(file)


def test_a_missing_form_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"make one with `eml handin init SHEET --file .*toml`"):
        read_form(tmp_path / "handin.toml")


def test_the_command_that_init_prints_works_as_printed(store):
    for file, options in (("a b/my.toml", " --file 'a b/my.toml'"), ("handin.toml", "")):
        printed = run_here("handin", "init", "ex2-2025", "--file", file).stdout
        assert printed.endswith(f"then `eml handin check{options}`\n")
        done = run_here(*shlex.split(printed.split("`")[1])[1:])
        assert (done.returncode, done.stderr[:26]) == (1, "rules that are not met: 12")
