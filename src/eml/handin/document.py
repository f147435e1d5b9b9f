"""The values that report.typ prints, and the PDF that typst makes of them."""

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time
from hashlib import sha256
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import matplotlib as mpl
import typst
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from eml.errors import UserError, printable
from eml.handin.sheet import Exercise, Sheet

STANDARDS: Any = ["a-2a", "ua-1"]  # archivable; accessible: every figure has an alternative text
# For letters that typst's own fonts lack. Matplotlib's others hold a box for every letter.
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf")
NO_GLYPH = re.compile(r"the text `(.+?)` could not be displayed")
IMAGES = (".png", ".jpg", ".jpeg", ".svg")
Read = Callable[[str], bytes]  # the file at a path relative to the form


@dataclass(frozen=True)
class Node:
    """A part of a Markdown text. kind: markdown-it's name for it, as "paragraph" or "link"."""

    kind: str
    text: str = ""  # of an image: the alternative text
    href: str = ""  # of an image: its file
    start: int = 1  # of an ordered list
    children: list["Node"] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A table of numbers; its first column is aligned left."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    note: str


@dataclass(frozen=True)
class Line:
    """A line of the calculation of 3.1."""

    quantity: str  # "dL/dw1[1,2]"
    working: str  # "1·2 + 1/2", or a matrix as "[[1, 2], [3, 4]]"
    value: str  # "5/2"; "" if the working is the value
    decimal: str  # " = 2.5"; "" for a whole number


@dataclass(frozen=True)
class Section:
    """A section of the calculation of 3.1, with its lines in columns."""

    title: str
    formula: str  # in plain text; report.typ has it in mathematics
    columns: int
    lines: list[Line]


@dataclass(frozen=True)
class FigureBlock:
    """A figure with its texts; images have it as figures/RECIPE/NAME.svg."""

    recipe: str
    name: str
    title: str
    caption: str
    expected: list[Node]
    observed: list[str]
    discussion: list[Node]


@dataclass(frozen=True)
class ExerciseBlock:
    """An exercise: a review, a calculation, or the results of its recipes."""

    exercise: Exercise
    review: list[Node]
    calculation: list[Section]
    results: list[FigureBlock | Table]


@dataclass(frozen=True)
class Document:
    """The whole hand-in."""

    sheet: Sheet
    names: list[str]
    group: str
    date: str  # as 2025-11-12
    draft: list[str]  # why it is a draft; empty: it is none
    declared: dict[str, tuple[bool, bool | str]]  # by exercise: handed in; present, or "" if open
    answers: list[ExerciseBlock]
    commands: list[str]  # that train everything again
    provenance: list[str]
    runs: list[list[str]]  # of each run: id, name, status, commit


def nodes(text: str, read: Read) -> list[Node]:
    """Parse a Markdown text into its blocks. HTML and typst in it stay text.

    read: called with the path of an image. Raises UserError for an image without alternative text,
    or of an unknown kind.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tree = SyntaxTreeNode(markdown.parse(text))
    return [_node(child, read) for child in tree.children]


def _node(node: SyntaxTreeNode, read: Read) -> Node:
    href, start = str(node.attrs.get("href", "")), int(node.attrs.get("start", 1))
    if node.type == "image":
        path = str(node.attrs["src"])
        if not node.content.strip() or not path.lower().endswith(IMAGES):
            raise UserError(
                f"image {printable(path, 100)} needs an alternative text, as "
                f"![what it shows](path), and an ending of {', '.join(IMAGES)}"
            )
        read(path)
        href = image_name(path)
    children = [_node(child, read) for child in node.children]
    return Node(node.type, node.content, href, start, children)


def image_name(path: str) -> str:
    """Return the template's name of an image: the group's path may climb out of a folder."""
    return f"images/{sha256(path.encode()).hexdigest()}{PurePosixPath(path).suffix.lower()}"


def typeset(document: Document, images: Mapping[str, bytes], day: date) -> bytes:
    """Make the PDF. images: by the paths that the document names. Raises UserError."""
    fonts = Path(mpl.get_data_path(), "fonts", "ttf")
    content = {
        "report.typ": (files("eml.handin") / "report.typ").read_bytes(),
        "data.json": json.dumps(asdict(document)).encode(),
        **{f"fonts/{name}": (fonts / name).read_bytes() for name in FONTS},
        **images,
    }
    with tempfile.TemporaryDirectory() as folder:
        for path, data in content.items():
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        try:
            return typst.compile(
                f"{folder}/report.typ",
                root=folder,
                font_paths=[f"{folder}/fonts"],
                ignore_system_fonts=True,
                format="pdf",
                pdf_standards=STANDARDS,
                timestamp=int(datetime.combine(day, time(), UTC).timestamp()),
            )
        except typst.TypstError as error:
            message = printable(f"the PDF cannot be made: {error}", 300)
            if letters := NO_GLYPH.search(str(error)):
                letter = printable(letters[1], 60)
                message = f"the PDF's fonts have no glyph for {letter}: write it in other letters"
            raise UserError(message) from error
