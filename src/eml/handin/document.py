"""The values that report.typ prints; typesetting.typeset() dumps them once, as JSON."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from eml.errors import printable
from eml.handin.form import FormError

IMAGES = (".png", ".jpg", ".jpeg", ".svg")


@dataclass(frozen=True)
class Node:
    """A part of a Markdown text. kind: markdown-it's name for it, as "paragraph" or "link"."""

    kind: str
    text: str = ""
    href: str = ""
    start: int = 1  # of an ordered list
    file: str = ""  # of an image
    alt: str = ""
    children: list["Node"] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A table; its first column is aligned left."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""
    numbers: bool = True  # whether the other columns are aligned right


@dataclass(frozen=True)
class FigureBlock:
    """A figure with its texts."""

    file: str
    title: str
    caption: str
    alt: str
    expected: list[Node]
    observed: list[str]
    discussion: list[Node]


@dataclass(frozen=True)
class RecipeBlock:
    """The figures and tables of one recipe."""

    figures: list[FigureBlock]
    tables: list[Table]


@dataclass(frozen=True)
class ExerciseBlock:
    """An exercise: a review, a calculation, or the results of its recipes."""

    title: str
    review_of: str = ""
    review: list[Node] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)  # of calculation.calculation
    after_steps: str = ""  # a sentence
    results: list[RecipeBlock] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """The whole hand-in."""

    title: str
    course: str
    term: str
    names: list[str]
    group: str
    date: str  # as 2025-11-12
    draft: list[str]  # why it is a draft; empty: it is none
    declaration: Table
    answers: list[ExerciseBlock]
    commands: list[str]  # that train everything again
    file: str  # the hand-in's file name, without ending
    provenance: list[str]
    runs: Table


def nodes(text: str, add_image: Callable[[str], str], where: str) -> list[Node]:
    """The blocks of a Markdown text. HTML and typst in it stay text.

    add_image: called with the path of an image; returns the path for the template. Raises FormError
    for an image without alternative text, or of an unknown kind.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tree = SyntaxTreeNode(markdown.parse(text))
    return [_node(child, add_image, where) for child in tree.children]


def _node(node: SyntaxTreeNode, add_image: Callable[[str], str], where: str) -> Node:
    if node.type == "image":
        source, alt = str(node.attrs["src"]), node.content
        if not source.lower().endswith(IMAGES):
            raise FormError(f"{where}: image {printable(source, 100)}: give {', '.join(IMAGES)}")
        if not alt.strip():
            raise FormError(
                f"{where}: image {printable(source, 100)} has no alternative text: write "
                "![what it shows](path)"
            )
        return Node("image", file=add_image(source), alt=alt)
    return Node(
        node.type,
        text=node.content if node.type in ("text", "code_inline", "fence", "code_block") else "",
        href=str(node.attrs.get("href", "")),
        start=int(node.attrs.get("start", 1)),
        children=[_node(child, add_image, where) for child in node.children],
    )
