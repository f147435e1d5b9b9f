"""Handin: a form with the evidence for it, from which the PDF follows; its check by the sheet."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from markdown_it.tree import SyntaxTreeNode

from eml.analysis.figures import FIGURES
from eml.analysis.report import MARKDOWN
from eml.errors import UserError, printable
from eml.exact.step import SHEET, solve
from eml.handin.evidence import Evidence, from_store, own_code, own_path
from eml.handin.form import Form, expected, read_file, read_form
from eml.handin.numbers import NamedCurve, Number, named_curves, of_trainings
from eml.handin.sheet import Assignment, Exercise, Values, judged
from eml.handin.source import state
from eml.tracking.find import Others, names_in, open_others
from eml.tracking.store import open_store

REFERENCE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
IMAGES = (".png", ".jpg", ".jpeg", ".svg")
Read = Callable[[str], bytes]  # the file at a path relative to the form
Node = dict[str, Any]  # a part of a Markdown text: kind (as "link"), text, children, attributes


class Check(NamedTuple):
    """A rule, and why the hand-in breaks it; "" if it does not."""

    part: str  # "top sheet", or the number of an exercise
    says: str
    why: str

    def __str__(self) -> str:
        line = f"{'failed' if self.why else 'passed'}  {self.part}: {self.says}"
        return f"{line}: {self.why}" if self.why else line


@dataclass
class Handin:
    """A form, the evidence for it by recipe, and a way to read the files that the form names.

    Holds everything that decides the PDF, so that the PDF can be made again from the archive.
    """

    form: Form
    evidence: dict[str, Evidence]
    read: Read
    code: Mapping[str, Any] = field(default_factory=dict)  # the state of eml's source (source.py)
    files: dict[str, bytes] = field(default_factory=dict)  # those that were read
    own_code: dict[str, bytes] = field(default_factory=dict)  # the group's, by path in the zip
    problems: dict[str, UserError] = field(default_factory=dict)  # by recipe: why it lacks evidence

    @property
    def exercises(self) -> list[Exercise]:
        """The exercises that are handed in."""
        return [e for e in self.form.sheet.exercises if self.form.exercise[e.number]["hand_in"]]

    @property
    def assignments(self) -> list[Assignment]:
        """Those of all exercises that are handed in."""
        return [assignment for exercise in self.exercises for assignment in exercise.trainings]

    @property
    def runs(self) -> list[tuple[str, Values]]:
        """The recipe of every run, and its parameters and tags."""
        return [(name, values) for name, one in self.evidence.items() for values in one.values]

    @cached_property
    def curves(self) -> dict[str, list[NamedCurve]]:
        """By recipe: its curves."""
        return {name: named_curves(name, one.final) for name, one in self.evidence.items()}

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """All numbers by name."""
        numbers: dict[str, Number] = {}
        if any(exercise.gradients for exercise in self.exercises):
            for name, value in solve(SHEET).numbers().items():
                numbers[f"gradients.{name}"] = Number(f"{value:g}", value, ())
        for recipe, evidence in self.evidence.items():
            numbers |= of_trainings(recipe, self.curves[recipe], evidence)
        return numbers

    @cached_property
    def draft(self) -> list[str]:
        """Why the hand-in is a draft: trainings that are smaller than the sheet asks."""
        return [
            f"{assignment.recipe}: {rule.says} asked for, {why}"
            for assignment in self.assignments
            for rule, why in judged(assignment.rules, self.evidence[assignment.recipe].values)
            if rule.draft and why
        ]

    def gather(self, run_ids: Mapping[str, Sequence[str]], others: Others) -> None:
        """Read the evidence from the store here and from others. run_ids: by recipe."""
        open_store(create=False, others=others)
        for assignment in self.assignments:
            recipe = assignment.recipe
            try:
                self.evidence[recipe] = from_store(assignment, run_ids[recipe], others)
            except UserError as error:
                self.problems[recipe] = UserError(f"{recipe}: {error}")

    def fill(self, text: str) -> str:
        """Replace each {{name}} by its number. Raises UserError with the nearest names."""

        def text_of(reference: re.Match[str]) -> str:
            name = reference[1].strip()
            if name in self.numbers:
                return self.numbers[name].shown
            if (recipe := name.partition(".")[0]) in self.problems:
                raise UserError(f"{{{{{name}}}}} needs a training of {recipe}")
            near = ", ".join(get_close_matches(name[:80], self.numbers, cutoff=0)) or "none"
            raise UserError(
                f"there is no number {{{{{printable(name, 80)}}}}}: the nearest are {near}"
            )

        return REFERENCE.sub(text_of, text)

    def parsed(self, text: str) -> list[Node]:
        """Parse a text of the form, or the Markdown file that it names, into its blocks.

        HTML and typst in it stay text. Raises UserError.
        """
        path = text.strip()
        if "\n" not in path and path.endswith(".md"):
            text = self.file(path).decode("utf-8", errors="replace")
        tree = SyntaxTreeNode(MARKDOWN.parse(self.fill(text)))
        return [_node(child, self.file) for child in tree.children]

    def file(self, path: str) -> bytes:
        """Read the file at this path; keep it in `files`."""
        self.files[path] = self.read(path)
        return self.files[path]


def _node(node: SyntaxTreeNode, read: Read) -> Node:
    attributes = dict(node.attrs)
    if node.type == "image":
        path = str(node.attrs["src"])
        if not node.content.strip() or not path.lower().endswith(IMAGES):
            raise UserError(
                f"image {printable(path, 100)} needs an alternative text, as "
                f"![what it shows](path), and an ending of {', '.join(IMAGES)}"
            )
        read(path)
        attributes["src"] = image_name(path)
    children = [_node(child, read) for child in node.children]
    return {"kind": node.type, "text": node.content, **attributes, "children": children}


def image_name(path: str) -> str:
    """Return the template's name of an image: the group's path may climb out of a folder."""
    return sha256(path.encode()).hexdigest() + PurePosixPath(path).suffix.lower()


def load(file: Path, stores: str = "") -> Handin:
    """Load the hand-in of a form; stores: of others, besides those that the form names."""
    form, folder = read_form(file), file.parent

    def read(path: str) -> bytes:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise UserError(f"{printable(path, 200)}: give a path below the folder of the form")
        return read_file(folder / path)

    handin = Handin(form, {}, read, state())
    if handin.assignments:
        others = [*open_others(form.stores, folder), *open_others(names_in(stores))]
        handin.gather({a.recipe: form.table(a.recipe)["runs"] for a in handin.assignments}, others)
        of_path = {own_path(values): values for _, values in handin.runs}
        handin.own_code = {k: own_code(values, others) for k, values in of_path.items() if k}
    return handin


def checks(handin: Handin) -> list[Check]:
    """Check all rules of the sheet, in its order."""
    lines = [Check("top sheet", *line) for line in _top_sheet(handin)]
    for exercise in handin.form.sheet.exercises:
        lines += [Check(exercise.number, *line) for line in _declared(handin, exercise)]
        for assignment in exercise.trainings if exercise in handin.exercises else ():
            lines += [Check(exercise.number, *line) for line in _trained(handin, assignment)]
    return lines


def _top_sheet(handin: Handin) -> Iterator[tuple[str, str]]:
    names, most = handin.form.names, handin.form.sheet.most_names
    are_written = names and all(map(str.strip, names)) and len(set(names)) == len(names)
    yield "names", "" if are_written else "write each name into names, once"
    yield "an exercise is handed in", "" if handin.exercises else "hand_in is false for all"
    yield f"at most {most} names", f"there are {len(names)}" if len(names) > most else ""


def _declared(handin: Handin, exercise: Exercise) -> Iterator[tuple[str, str]]:
    answer = handin.form.exercise[exercise.number]
    if not answer["hand_in"]:
        why = "the exercise is not handed in: set present = false" if answer["present"] else ""
        yield "declared only for exercises that are handed in", why
        return
    why = "write true or false into present" if answer["present"] == "" else ""
    yield "willingness to present declared", why
    if exercise.review_of:
        yield "review of the paper", _refusal(handin, answer["review"])


def _refusal(handin: Handin, text: str) -> str:
    """Return why the PDF takes no such text of the form; "" if it does."""
    try:
        return "" if handin.parsed(text) else "the text is empty"
    except UserError as error:
        return error.shown()


def _trained(handin: Handin, assignment: Assignment) -> Iterator[tuple[str, str]]:
    recipe = assignment.recipe
    for figure in assignment.figures:
        for name, text in handin.form.table(recipe)[figure].items():
            is_hint = " ".join(text.split()) == expected(assignment.of)
            why = "write it in words of your own" if is_hint else _refusal(handin, text)
            yield f"{recipe}, {figure}: {name}", why
    if problem := handin.problems.get(recipe):
        yield f"{recipe}: trained", problem.shown()
        return
    evidence = handin.evidence[recipe]
    unfinished = [
        f"run {training.run_id} is at epoch {training.last_epoch} of {training.values['epochs']}"
        for training in evidence.final.trainings
        if training.unfinished
    ]
    yield f"{recipe}: every training has ended", ", ".join(unfinished)
    for rule, why in judged(assignment.rules, evidence.values):
        yield f"{recipe}: {rule.says}", why
    for figure in assignment.figures:
        missing = [name for name in FIGURES[figure].needs if not evidence.final.has(name)]
        why = f"the runs have no {' and no '.join(missing)}" if missing else ""
        yield f"{recipe}, {figure}: drawn", why
