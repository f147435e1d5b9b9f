"""Typesets a hand-in with typst: the same data give the same bytes on every machine."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib as mpl
import typst

from eml.errors import UserError, printable
from eml.handin.document import Document

STANDARDS: Any = ["a-2a", "ua-1"]  # archivable; accessible: every figure has an alternative text
# For letters that typst's own fonts lack. Matplotlib's others hold a box for every letter.
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf")
NO_GLYPH = re.compile(r"the text `(.+?)` could not be displayed")


class TypesettingError(UserError):
    """The PDF cannot be made; the message says why."""


def typeset(document: Document, images: Mapping[str, bytes], day: date) -> bytes:
    """The PDF. images: by the paths that the document names. Raises TypesettingError."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        report = root / "report.typ"
        report.write_bytes((files("eml.handin") / "report.typ").read_bytes())
        (root / "data.json").write_text(json.dumps(asdict(document)), encoding="utf-8")
        for path, content in images.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        fonts = root / "fonts"
        fonts.mkdir()
        for name in FONTS:
            source = Path(mpl.get_data_path(), "fonts", "ttf", name)
            (fonts / name).write_bytes(source.read_bytes())
        try:
            return typst.compile(
                str(report),
                root=folder,
                font_paths=[str(fonts)],
                ignore_system_fonts=True,
                format="pdf",
                pdf_standards=STANDARDS,
                timestamp=int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()),
            )
        except typst.TypstError as error:
            raise TypesettingError(_reason(str(error))) from error


def _reason(message: str) -> str:
    if letters := NO_GLYPH.search(message):
        return (
            f"the PDF's fonts have no glyph for {printable(letters[1], 60)}: write it in other "
            "letters"
        )
    return f"the PDF cannot be made: {printable(message, 300)}"
