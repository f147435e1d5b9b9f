"""handin.toml, the form of a group: made from a sheet, completed later, read and checked."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from textwrap import fill
from typing import Any

import tomlkit

from eml.config import one_of
from eml.errors import UserError, printable, redacted
from eml.handin.sheet import Exercise, Sheet, load_sheet, sheet_names
from eml.recipes.recipe import Recipe

TYPES = {
    str: "a text",
    bool: "true or false",
    list: "a list of texts",
    dict: "a table",
    date: "a date, as 2025-11-12",
}
OPTIONAL = ("group", "stores")  # keys that a form may lack


class FormError(UserError):
    """The form cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Plot:
    """A group's texts about one figure, in Markdown."""

    expected: str
    discussion: str


@dataclass(frozen=True)
class Answer:
    """A group's entries for one exercise."""

    hand_in: bool
    present: bool | None  # None: not declared yet
    review: str  # Markdown, or the path of a Markdown file
    runs: Mapping[str, tuple[str, ...]]  # by recipe; empty: those that meet the sheet's rules
    plots: Mapping[tuple[str, str], Plot]  # by recipe and figure


@dataclass(frozen=True)
class Form:
    """The content of a form, with its bytes."""

    sheet: Sheet
    group: str
    names: tuple[str, ...]
    date: date
    answers: Mapping[str, Answer]  # by the number of the exercise
    content: bytes
    stores: tuple[str, ...] = ()  # of others; relative paths are below the form's folder

    @property
    def handed_in(self) -> list[Exercise]:
        """The exercises with hand_in = true."""
        return [
            exercise for exercise in self.sheet.exercises if self.answers[exercise.number].hand_in
        ]


def expected(recipe: Recipe) -> str:
    """The paragraph "Expected" of a recipe's docstring, on one line."""
    paragraphs = [" ".join(part.split()) for part in recipe.about.split("\n\n")]
    (text,) = [part for part in paragraphs if part.startswith("Expected: ")]
    text = text.removeprefix("Expected: ")
    return text[:1].upper() + text[1:]


def write_form(file: Path, sheet_name: str) -> bool:
    """Write the form of a sheet, or add the missing keys to an existing one; whether it is new.

    Keeps everything that was written. Raises FormError if the file is another sheet's, or no TOML.
    """
    text = "\n".join(_blank(load_sheet(sheet_name)))
    is_new = not file.exists()
    if not is_new:
        try:
            written = tomlkit.parse(_read(file))
        except (ValueError, RecursionError) as error:
            raise FormError(f"{file} is not TOML: {error}") from error
        if (other := written.get("sheet", sheet_name)) != sheet_name:
            raise FormError(f"{file} is the form of {other}: give another --file for {sheet_name}")
        _complete(written, tomlkit.parse(text), str(file))
        text = tomlkit.dumps(written)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        work = file.with_name(f".{file.name}.new")
        work.write_text(text, encoding="utf-8")
        work.replace(file)
    except OSError as error:
        raise FormError(f"{file} cannot be written: {error.strerror}") from error
    return is_new


def _blank(sheet: Sheet) -> Iterator[str]:
    """The lines of a form with nothing filled in. Its values show the type of each key."""
    yield f"""\
# Hand-in: {sheet.title}, {sheet.course}, {sheet.term}.
# `eml handin check` says what is missing; `eml handin build` makes the PDF and the zip.
# Texts are Markdown. Write a number of a run by its name, as {{{{mlp_numpy.best_epoch}}}}:
# `eml handin numbers` lists all names with their values.
sheet = "{sheet.name}"
names = [] # of at most {sheet.most_names}, as ["Ada Lovelace", "Alan Turing"]
group = "" # its name or number, if it has one
date = {date.today()} # on the top sheet
stores = [] # of others, read beside the one here, as ["../ada/mlflow.db"]
"""
    for exercise in sheet.exercises:
        table, points, half = f'exercise."{exercise.number}"', "", ""
        if exercise.points is not None:
            points, half = f", {exercise.points} points", f" ({exercise.points / 2:g} points)"
        yield f"[{table}] # {exercise.title}{points}"
        yield "hand_in = true # false leaves the exercise out"
        yield f'present = "" # true or false: are you willing to present it?{half}'
        if exercise.review_of:
            yield 'review = "" # Markdown, or the path of a Markdown file, as "review.md"'
        yield ""
        for trainings in exercise.trainings:
            yield f"[{table}.{trainings.recipe}]"
            yield "runs = [] # ids of runs; []: those that meet the sheet's rules\n"
            text = fill(expected(trainings.of), 96)
            for figure in trainings.figures:
                yield f"[{table}.{trainings.recipe}.{figure}]"
                yield f'expected = """\n{text}\n"""\ndiscussion = """\n\n"""\n'


def _complete(written: Any, blank: Any, where: str) -> None:
    """Add the keys to `written` that only `blank` has, level by level."""
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
    _check_value("sheet", values.get("sheet"), "", where)
    one_of(f"{where}: sheet", values["sheet"], sheet_names())
    sheet = load_sheet(values["sheet"])
    _check_keys(values, tomllib.loads("\n".join(_blank(sheet))), where)
    stores = tuple(values.get("stores", ()))
    if any(redacted(store) != store for store in stores):
        raise FormError(
            f"{where}: a store with a password, which everybody could read in the zip: give it as "
            "--stores"
        )
    return Form(
        sheet=sheet,
        names=tuple(map(printable, values["names"])),
        group=printable(values.get("group", "")),
        date=values["date"],
        answers={e.number: _answer(e, values["exercise"][e.number]) for e in sheet.exercises},
        content=content,
        stores=stores,
    )


def _check_keys(values: dict[str, Any], blank: dict[str, Any], where: str) -> None:
    """Raise FormError unless `values` has the keys of `blank`, with values of the same types."""
    for key in values:
        if key not in blank:
            raise FormError(f"{where}: no key {printable(key, 60)}, give {', '.join(blank)}")
    for key, example in blank.items():
        if key in OPTIONAL and key not in values:
            continue
        _check_value(key, values.get(key), example, where)
        if isinstance(example, dict):
            _check_keys(values[key], example, f"{where}{',' if ': ' in where else ':'} {key}")


def _check_value(key: str, value: Any, example: Any, where: str) -> None:
    """Raise FormError unless the value has the type of the example, exactly."""
    if value is None:
        raise FormError(f"{where} lacks {key}: `eml handin init` adds what is missing")
    if key == "present":
        if value != "" and not isinstance(value, bool):
            raise FormError(f'{where}: present is "{printable(value, 60)}": give true or false')
    elif type(value) is not type(example) or (
        isinstance(value, list) and not all(isinstance(item, str) for item in value)
    ):
        valid = TYPES[type(example)]
        raise FormError(f"{where}: {key} is {printable(value, 60)}: give {valid}")


def _answer(exercise: Exercise, values: dict[str, Any]) -> Answer:
    return Answer(
        hand_in=values["hand_in"],
        present=None if values["present"] == "" else values["present"],
        review=values.get("review", ""),
        runs={each.recipe: tuple(values[each.recipe]["runs"]) for each in exercise.trainings},
        plots={
            (each.recipe, figure): Plot(**values[each.recipe][figure])
            for each in exercise.trainings
            for figure in each.figures
        },
    )
