"""A group's texts: Markdown as a tree for the template. HTML and typst in them stay text."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from eml.handin.form import FormError
from eml.handin.numbers import REFERENCE, Number
from eml.text import printable

IMAGES = (".png", ".jpg", ".jpeg", ".svg")
KNOWN = 0.01  # relative difference up to which a bare number is taken for a known one
# Not part of a word, a longer number or a name.
BARE = re.compile(r"(?<![\w.,{])(\d+(?:\.\d+)?)(\s*%)?(?![\w}]|[.,]\d)")


def tree(text: str, add_image: Callable[[str], str], where: str) -> list[dict[str, Any]]:
    """The blocks of a Markdown text, as nested dictionaries.

    add_image: called with the path of an image; returns the path for the template. Raises FormError
    for an image without alternative text, or of an unknown kind.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    return [_node(each, add_image, where) for each in SyntaxTreeNode(markdown.parse(text)).children]


def _node(node: SyntaxTreeNode, add_image: Callable[[str], str], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": node.type}
    if node.type == "image":
        source, alt = str(node.attrs["src"]), node.content
        if not source.lower().endswith(IMAGES):
            raise FormError(f"{where}: image {printable(source, 100)}: give {', '.join(IMAGES)}")
        if not alt.strip():
            raise FormError(
                f"{where}: image {printable(source, 100)} has no alternative text: write "
                "![what it shows](path)"
            )
        return found | {"file": add_image(source), "alt": alt}
    if node.type in ("text", "code_inline", "fence", "code_block"):
        found["text"] = node.content
    elif node.type == "link":
        found["href"] = str(node.attrs["href"])
    elif node.type == "heading":
        found["level"] = int(node.tag[1:])
    elif node.type == "ordered_list":
        found["start"] = int(node.attrs.get("start", 1))
    elif node.type == "inline" and not node.children:
        return {"type": "text", "text": node.content}
    return found | {"children": [_node(each, add_image, where) for each in node.children]}


def lookalikes(text: str, numbers: Iterable[tuple[str, Number]]) -> list[str]:
    """Warnings about numbers typed into a text that are almost, but not quite, known ones."""
    known = list(numbers)
    lines = []
    for match in BARE.finditer(REFERENCE.sub("", text)):
        typed, places = float(match[1]), len(match[1].partition(".")[2])
        near = None
        for name, number in known:
            # A fraction may be typed in per cent.
            for value in (number.value, 100 * number.value):
                if abs(typed - value) <= KNOWN * abs(value):
                    if round(value, places) == typed:
                        near = None
                        break
                    near = near or (name, number.shown)
            else:
                continue
            break
        if near:
            lines.append(f"{match[0].strip()} is close to {{{{{near[0]}}}}}, {near[1]}")
    return lines
