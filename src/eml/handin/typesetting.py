"""Typesets a hand-in with typst: the same data give the same bytes on every machine."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time
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
                message = f"the PDF's fonts have no glyph for {printable(letters[1], 60)}"
                message += ": write it in other letters"
            raise UserError(message) from error
