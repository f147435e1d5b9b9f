"""The form of a group, handin.toml: made from a sheet, read and checked."""

import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from textwrap import fill
from typing import Any

from eml.errors import UserError, printable, redacted
from eml.handin.sheet import Sheet, load_sheet
from eml.recipes.recipe import Recipe

FORM = "handin.toml"
TYPES = {
    str: "a text",
    bool: "true or false",
    list: "a list of texts",
    dict: "a table",
    date: "a date, as 2025-11-12",
}
COMMENT: dict[str, Any] = {"initial_indent": "# ", "subsequent_indent": "# "}
OPTIONAL = ("group", "steps", "stores")  # keys that a form may lack


@dataclass(frozen=True, kw_only=True)
class Form:
    """The content of a form. parse_form() checks it, so that it has all tables of its sheet."""

    sheet: Sheet
    content: bytes
    names: list[str]
    date: date
    exercise: Mapping[str, Any]  # the table of each exercise, by number
    group: str = ""
    steps: str = ""  # Markdown: how to run it, besides the usual steps
    stores: list[str] = field(default_factory=list)  # relative paths are below the form's folder

    def table(self, recipe: str) -> Mapping[str, Any]:
        """Return the table of a recipe: its runs, and its figures with their texts."""
        table: Mapping[str, Any] = next(t[recipe] for t in self.exercise.values() if recipe in t)
        return table


def handin_command(words: str, file: object, stores: str = "") -> str:
    """Return `eml handin` with these words and the options that it needs, for a shell."""
    options = {"--file": "" if str(file) == FORM else str(file), "--stores": stores}
    texts = [f" {name} {shlex.quote(value)}" for name, value in options.items() if value]
    return redacted(f"`eml handin {words}{''.join(texts)}`")


def expected(recipe: Recipe) -> str:
    """Return the paragraph "Expected" of a recipe's docstring, on one line."""
    text = recipe.about.partition("Expected: ")[2].partition("\n\n")[0]
    return " ".join((text[:1].upper() + text[1:]).split())


def write_form(file: Path, sheet_name: str) -> None:
    """Write the blank form of a sheet. Raises UserError if the file exists."""
    text = "\n".join(_blank(load_sheet(sheet_name), file))
    if file.exists():
        raise UserError(f"{file} exists and stays as it is: give another --file")
    write_files({file.name: text.encode()}, file.parent)


def _blank(sheet: Sheet, file: object = FORM) -> Iterator[str]:
    """Yield the lines of a form with nothing filled in. Its values have the type of each key."""
    yield f"""\
# Hand-in: {sheet.title}, {sheet.course}, {sheet.term}.
# {handin_command("check", file)} says what is missing.
# {handin_command("build", file)} makes the PDF and the zip.
# Texts are Markdown. Write a number of a run by its name, as {{{{mlp_numpy.best_epoch}}}}:
# {handin_command("numbers", file)} lists all names with their values.
sheet = "{sheet.name}"
names = [] # of at most {sheet.most_names}, as ["Ada Lovelace", "Alan Turing"]
group = "" # its name or number, if it has one
date = {date.today()} # on the top sheet
steps = "" # Markdown: what you did to run it besides the steps that the PDF lists anyway
stores = [] # of others, read beside the one here, as ["../ada/mlflow.db"]
"""
    for exercise in sheet.exercises:
        table = f'exercise."{exercise.number}"'
        points = f", {exercise.points} points" if exercise.points else ""
        yield f"[{table}] # {exercise.title}{points}"
        yield "hand_in = true # false leaves the exercise out"
        yield 'present = "" # true or false: are you willing to present it?'
        if exercise.review_of:
            yield 'review = "" # Markdown, or the path of a Markdown file, as "review.md"'
        yield ""
        for assignment in exercise.trainings:
            yield f"[{table}.{assignment.recipe}]"
            yield "runs = [] # ids of runs; []: those that meet the sheet's rules\n"
            hint = fill(f"Hint: {expected(assignment.of)}", 96, **COMMENT)
            for figure in assignment.figures:
                yield f"[{table}.{assignment.recipe}.{figure}]"
                yield f'{hint}\nexpected = """\n\n"""\ndiscussion = """\n\n"""\n'


def read_file(path: Path) -> bytes:
    """Read a file. Raises UserError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files by name into a folder, all or none. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / f".{name}.new").write_bytes(content)
        for name in files:
            (folder / f".{name}.new").replace(folder / name)
    except OSError as error:
        raise UserError(f"{folder} cannot be written to: {error.strerror}") from error


def read_form(file: Path) -> Form:
    """Read the form in a file. Raises UserError with the line that says what is wrong."""
    if not file.is_file():
        raise UserError(f"there is no {file}: make one with {handin_command('init SHEET', file)}")
    return parse_form(read_file(file), str(file))


def parse_form(content: bytes, where: str) -> Form:
    """Read the form in these bytes; where: its name in messages."""
    try:
        values = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not TOML: {error}") from error
    sheet = load_sheet(values.get("sheet", ""))
    _check(values, tomllib.loads("\n".join(_blank(sheet))), f"{where}:")
    if any(redacted(store) != store for store in values.get("stores", ())):
        raise UserError(f"{where}: a store with a password, which the zip would show: use --stores")
    return Form(**values | {"sheet": sheet}, content=content)


def _check(value: Any, blank: Any, where: str) -> None:
    """Raise UserError unless a value has the type of the blank form's, and a table its keys."""
    is_other_list = isinstance(value, list) and not all(isinstance(item, str) for item in value)
    if type(value) is not type(blank) or is_other_list:
        raise UserError(f"{where} is {printable(value, 60)}: give {TYPES[type(blank)]}")
    if not isinstance(blank, dict):
        return
    for key in value.keys() - blank.keys():
        raise UserError(f"{where} takes no key {printable(key, 60)}, give {', '.join(blank)}")
    for key, item in blank.items():
        kind = False if key == "present" and value.get(key) != "" else item
        if key in value:
            _check(value[key], kind, f"{where} {key}")
        elif key not in OPTIONAL:
            raise UserError(f"{where} lacks {key}: give {TYPES[type(kind)]}")
