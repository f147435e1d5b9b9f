"""handin.toml: made from a sheet, completed without losing anything, and read with clear errors."""

import pytest
import tomlkit

from eml.errors import UserError
from eml.handin.form import expected, read_form, write_form
from eml.handin.sheet import load_sheet, sheet_names
from support.handins import form_of


@pytest.mark.parametrize("name", sheet_names())
def test_a_new_form_has_every_task_and_plot_of_its_sheet(name, tmp_path):
    file = tmp_path / "folder" / "handin.toml"
    assert write_form(file, name)
    form, sheet = read_form(file), load_sheet(name)
    assert list(form.exercise) == [exercise.number for exercise in sheet.exercises]
    for assignment in sheet.trainings:
        for figure in assignment.figures:
            texts = form.table(assignment.recipe)[figure]
            assert " ".join(texts["expected"].split()) == expected(assignment.of)
            assert texts["discussion"].strip() == ""
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


def test_a_second_time_keeps_what_was_written_and_adds_what_is_missing(tmp_path):
    file = tmp_path / "handin.toml"
    write_form(file, "ex3-2025")
    whole = file.read_text()
    lines = (
        whole.replace("names = []", 'names = ["Ada"]  # mine')
        .replace('group = ""', "# group is gone")
        .splitlines(keepends=True)
    )
    start = lines.index('[exercise."3.4"] # Optimizers, 10 points\n')
    text = "# a comment\n" + "".join(lines[:start])
    text = text.replace('discussion = """\n\n"""', 'discussion = """\nOurs: 50 %.\n"""', 1)
    file.write_text(text)
    assert not write_form(file, "ex3-2025")
    after = file.read_text()
    for kept in ("# a comment", 'names = ["Ada"]  # mine', "# group is gone", "Ours: 50 %."):
        assert kept in after
    form = read_form(file)
    assert (form.names, form.group) == (["Ada"], "")
    assert form.table("optimizers").keys() == {"runs", "test_accuracy_over_epochs"}
    write_form(file, "ex3-2025")
    assert file.read_text() == after


def test_the_form_of_another_sheet_is_left_alone(tmp_path):
    file = tmp_path / "handin.toml"
    write_form(file, "ex3-2025")
    before = file.read_text()
    with pytest.raises(UserError, match="is the form of ex3-2025: give another --file"):
        write_form(file, "ex2-2025")
    assert file.read_text() == before


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
        "takes no key authors, give sheet, names, group, date, stores, exercise",
    ),
    "unknown exercise": (
        put("exercise", "2.9", tomlkit.table()),
        "exercise takes no key 2.9, give 2.1, 2.2",
    ),
    "no names": (put("names", None), "lacks names: `eml handin init` adds what is missing"),
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
    for call in (lambda: read_form(file), lambda: write_form(file, "ex2-2025")):
        with pytest.raises(UserError, match="is not"):
            call()
    assert file.read_bytes() == content


def test_a_missing_form_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match="make one with `eml handin init SHEET`, SHEET one of ex2"):
        read_form(tmp_path / "handin.toml")
