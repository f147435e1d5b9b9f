"""handin.toml: what a group fills in. Made from a sheet, completed later, read and checked."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from textwrap import wrap
from typing import Any

import tomlkit
from tomlkit.items import String, Table

from eml.config import one_of
from eml.errors import UserError
from eml.handin.sheet import Exercise, Sheet, load_sheet, sheet_names
from eml.recipes.recipe import Recipe
from eml.text import printable, redacted

UNDECIDED = ""  # of a declaration that the group still has to make


class FormError(UserError):
    """The form cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Plot:
    """What a group writes about one figure, in Markdown."""

    expected: str
    discussion: str


@dataclass(frozen=True)
class Answer:
    """What a group fills in for one exercise."""

    hand_in: bool
    present: bool | None  # None: not declared yet
    review: str  # Markdown, or the path of a Markdown file
    runs: Mapping[str, tuple[str, ...]]  # by recipe; empty: those that meet the sheet's rules
    plots: Mapping[tuple[str, str], Plot]  # by recipe and figure


@dataclass(frozen=True)
class Form:
    """A form that was read, with the bytes it was read from."""

    sheet: Sheet
    group: str
    names: tuple[str, ...]
    date: date
    answers: Mapping[str, Answer]  # by the number of the exercise
    content: bytes
    stores: tuple[str, ...] = ()  # of others; relative paths are below the form's folder

    @property
    def handed_in(self) -> list[Exercise]:
        return [
            exercise for exercise in self.sheet.exercises if self.answers[exercise.number].hand_in
        ]


def expected(recipe: Recipe) -> str:
    """The paragraph "Expected" of a recipe's docstring, on one line."""
    paragraphs = [" ".join(part.split()) for part in recipe.about.split("\n\n")]
    (found,) = [part for part in paragraphs if part.startswith("Expected: ")]
    text = found.removeprefix("Expected: ")
    return text[:1].upper() + text[1:]


def write_form(file: Path, sheet_name: str) -> bool:
    """Write the form of a sheet, or add to an existing one what it lacks; whether it is new.

    Keeps everything that was written. Raises FormError if the file is another sheet's, or no TOML.
    """
    sheet = load_sheet(sheet_name)
    is_new, document = not file.exists(), _blank(sheet)
    if not is_new:
        try:
            document, blank = tomlkit.parse(_read(file)), document
        except (ValueError, RecursionError) as error:
            raise FormError(f"{file} is not TOML: {error}") from error
        if (other := document.get("sheet", sheet_name)) != sheet_name:
            raise FormError(f"{file} is the form of {other}: give another --file for {sheet_name}")
        _complete(document, blank, str(file))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        work = file.with_name(f".{file.name}.new")
        work.write_text(tomlkit.dumps(document), encoding="utf-8")
        work.replace(file)
    except OSError as error:
        raise FormError(f"{file} cannot be written: {error.strerror}") from error
    return is_new


def _blank(sheet: Sheet) -> tomlkit.TOMLDocument:
    """The form of a sheet, with nothing filled in."""
    form = tomlkit.document()
    for line in (
        f"Hand-in: {sheet.title}, {sheet.course}, {sheet.term}.",
        "`eml handin check` says what is missing; `eml handin build` makes the PDF and the zip.",
        "Texts are Markdown. Write a number of a run by its name, as {{mlp_numpy.best_epoch}}:",
        "`eml handin numbers` lists all names with their values.",
    ):
        form.add(tomlkit.comment(line))
    _add(form, "sheet", sheet.name, "")
    _add(form, "names", [], f'of at most {sheet.most_names}, as ["Ada Lovelace", "Alan Turing"]')
    _add(form, "group", "", "its name or number, if it has one")
    _add(form, "date", date.today(), "on the top sheet")
    _add(form, "stores", [], 'of others, read beside the one here, as ["../ada/mlflow.db"]')
    exercises = tomlkit.table(is_super_table=True)
    for exercise in sheet.exercises:
        exercises.add(tomlkit.key(exercise.number), _blank_exercise(exercise))
    form.add("exercise", exercises)
    return form


def _blank_exercise(exercise: Exercise) -> Table:
    table = tomlkit.table()
    points = "" if exercise.points is None else f", {exercise.points} points"
    table.comment(f"{exercise.title}{points}")
    _add(table, "hand_in", True, "false leaves the exercise out")
    half = "" if exercise.points is None else f" ({exercise.points / 2:g} points)"
    _add(table, "present", UNDECIDED, f"true or false: are you willing to present it?{half}")
    if exercise.review_of:
        _add(table, "review", "", 'Markdown, or the path of a Markdown file, as "review.md"')
    for trainings in exercise.trainings:
        of_recipe = tomlkit.table()
        _add(of_recipe, "runs", [], "ids of runs; []: those that meet the sheet's rules")
        for figure in trainings.figures:
            plot = tomlkit.table()
            plot.add("expected", _text(expected(trainings.of)))
            plot.add("discussion", _text(""))
            of_recipe.add(figure, plot)
        table.add(trainings.recipe, of_recipe)
    return table


def _text(text: str) -> String:
    return tomlkit.string("\n" + "".join(f"{line}\n" for line in wrap(text, 96)), multiline=True)


def _add(container: Any, key: str, value: Any, comment: str) -> None:
    item = tomlkit.item(value)
    if comment:
        item.comment(comment)
    container.add(key, item)


def _complete(written: Any, blank: Any, where: str) -> None:
    """Add to `written` the keys that only `blank` has, level by level."""
    for key, item in blank.items():
        if key not in written:
            written.add(key, item)
        elif isinstance(item, dict):
            if not isinstance(written[key], dict):
                raise FormError(f"{where}: {key} is not a table")
            _complete(written[key], item, where)


def read_form(file: Path) -> Form:
    """The form in a file. Raises FormError with the line that says what is wrong."""
    if not file.is_file():
        raise FormError(
            f"there is no {file}: make one with `eml handin init SHEET`, SHEET one of "
            + ", ".join(sheet_names())
        )
    return parse_form(_read(file).encode(), str(file))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise FormError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FormError(f"{file} is not a text in UTF-8") from error


def parse_form(content: bytes, where: str) -> Form:
    """The form in these bytes; where: its name in messages."""
    try:
        values = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise FormError(f"{where} is not TOML: {error}") from error
    field = _Fields(values, where)
    name = field.take("sheet", str)
    one_of(f"{where}: sheet", name, sheet_names())
    sheet = load_sheet(name)
    form = Form(
        sheet=sheet,
        names=tuple(map(printable, field.take("names", list, item=str))),
        group=printable(field.take("group", str, "")),
        date=field.take("date", date),
        answers={
            number: _answer(exercise, values_of)
            for number, exercise, values_of in _exercises(field, sheet)
        },
        content=content,
        stores=tuple(field.take("stores", list, [], item=str)),
    )
    for store in form.stores:
        if redacted(store) != store:
            raise FormError(
                f"{where}: a store with a password, which everybody could read in the zip: give "
                "it as --stores"
            )
    field.end()
    return form


def _exercises(field: "_Fields", sheet: Sheet) -> Iterator[tuple[str, Exercise, "_Fields"]]:
    exercises = _Fields(field.take("exercise", dict), f"{field.where}: exercise")
    for exercise in sheet.exercises:
        values = exercises.take(exercise.number, dict)
        yield (
            exercise.number,
            exercise,
            _Fields(values, f'{field.where}: exercise "{exercise.number}"'),
        )
    exercises.end()


def _answer(exercise: Exercise, field: "_Fields") -> Answer:
    runs: dict[str, tuple[str, ...]] = {}
    plots: dict[tuple[str, str], Plot] = {}
    hand_in = field.take("hand_in", bool)
    present = field.take("present", (bool, str))
    if isinstance(present, str) and present != UNDECIDED:
        raise FormError(f'{field.where}: present is "{printable(present, 60)}": give true or false')
    review = field.take("review", str) if exercise.review_of else ""
    for trainings in exercise.trainings:
        recipe = trainings.recipe
        of_recipe = _Fields(field.take(recipe, dict), f"{field.where}, {recipe}")
        runs[recipe] = tuple(of_recipe.take("runs", list, item=str))
        for figure in trainings.figures:
            plot = _Fields(of_recipe.take(figure, dict), f"{of_recipe.where}, {figure}")
            plots[recipe, figure] = Plot(plot.take("expected", str), plot.take("discussion", str))
            plot.end()
        of_recipe.end()
    field.end()
    return Answer(hand_in, None if present == UNDECIDED else bool(present), review, runs, plots)


TYPES = {
    str: "a text",
    bool: "true or false",
    list: "a list of texts",
    dict: "a table",
    date: "a date, as 2025-11-12",
    (bool, str): "true or false",
}


class _Fields:
    """The keys of a table, taken one by one, so that a missing or unknown one is named."""

    def __init__(self, values: dict[str, Any], where: str):
        self.values, self.where = dict(values), where
        self.taken: list[str] = []

    def take(self, key: str, kind: Any, default: Any = None, item: type | None = None) -> Any:
        self.taken.append(key)
        value = self.values.pop(key, default)
        if value is None:
            raise FormError(f"{self.where} lacks {key}: `eml handin init` adds what is missing")
        fits = isinstance(value, kind) and not isinstance(value, datetime)
        if not fits or (item and not all(isinstance(each, item) for each in value)):
            raise FormError(f"{self.where}: {key} is {printable(value, 60)}: give {TYPES[kind]}")
        return value

    def end(self) -> None:
        """Raise FormError if a key is left that has no meaning."""
        for key in self.values:
            raise FormError(
                f"{self.where}: no key {printable(key, 60)}, give {', '.join(self.taken)}"
            )
