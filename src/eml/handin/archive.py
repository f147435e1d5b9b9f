"""The zip beside the PDF: its manifest, and reading an archive that anyone may have made."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from typing import Any

from eml.errors import UserError
from eml.handin.content import Content
from eml.handin.evidence import Evidence, of_csv
from eml.handin.form import FormError, parse_form
from eml.handin.handin import Handin
from eml.handin.numbers import Number
from eml.handin.options import FORM
from eml.handin.source import source_digest
from eml.text import printable

MANIFEST = "manifest.json"
FORM_FOLDER, HISTORIES, SOURCE = "form", "histories", "source"
# Packages whose version decides the bytes of figures and PDF, besides eml's own source.
DECIDING = ("matplotlib", "numpy", "pandas", "typst")
LARGEST = 50_000_000  # bytes of an archive's member
MOST_MEMBERS = 5_000


class ArchiveError(UserError):
    """A file is no archive of a hand-in; the message says why."""


def members(handin: Handin, content: Content, pdf: bytes) -> dict[str, bytes]:
    """The files of the archive that verify() can make again, by path."""
    found = {f"{handin.sheet.file}.pdf": pdf, f"{FORM_FOLDER}/{FORM}": handin.form.content}
    found |= {f"{FORM_FOLDER}/{path}": data for path, data in handin.files.items()}
    found |= content.figures
    found |= {f"{HISTORIES}/{name}.csv": each.csv for name, each in handin.evidence.items()}
    return found


def manifest(handin: Handin, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What the archive says about itself."""
    return {
        "sheet": handin.sheet.name,
        "draft": handin.draft,
        "versions": versions(),
        "numbers": {name: entry(number) for name, number in handin.numbers.printed.items()},
        "sha256": {path: hashlib.sha256(data).hexdigest() for path, data in sorted(files.items())},
    }


def entry(number: Number) -> dict[str, Any]:
    """A printed number in the manifest."""
    return {**number._asdict(), "runs": list(number.runs)}


def versions() -> dict[str, str]:
    """The versions of the packages in DECIDING, and the digest of eml's source."""
    return {"eml": source_digest()} | {name: version(name) for name in DECIDING}


def write(files: Mapping[str, bytes], about: Mapping[str, Any], day: date) -> bytes:
    """The archive as bytes. Not compressed: compression differs between machines."""
    buffer = io.BytesIO()
    text = json.dumps(about, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in sorted({**files, MANIFEST: text.encode()}.items()):
            member = zipfile.ZipInfo(path, (day.year, day.month, day.day, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return buffer.getvalue()


def read(data: bytes) -> tuple[Handin, dict[str, Any], dict[str, bytes]]:
    """The hand-in, the manifest, and all files of an archive.

    Nothing is written to the disk. Raises ArchiveError for anything that eml has not made.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            largest = max((info.file_size for info in infos), default=0)
            if len(infos) > MOST_MEMBERS or largest > LARGEST:
                raise ArchiveError("the archive is too large")
            files = {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise ArchiveError(f"this is no readable zip: {error}") from error
    for path in (MANIFEST, f"{FORM_FOLDER}/{FORM}"):
        if path not in files:
            raise ArchiveError(f"it lacks {path}: `eml handin build` makes the archive")
    try:
        about = json.loads(files[MANIFEST])
        if not all(isinstance(about[key], dict) for key in ("numbers", "sha256")):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArchiveError(f"{MANIFEST} is damaged") from error

    def read_file(path: str) -> bytes:
        try:
            return files[f"{FORM_FOLDER}/{path}"]
        except KeyError:
            raise FormError(f"there is no {printable(path, 100)} in the archive") from None

    form = parse_form(files[f"{FORM_FOLDER}/{FORM}"], FORM)
    evidence: dict[str, Evidence] = {}
    for trainings in (each for exercise in form.handed_in for each in exercise.trainings):
        path = f"{HISTORIES}/{trainings.recipe}.csv"
        if path not in files:
            raise ArchiveError(f"it lacks {path}")
        evidence[trainings.recipe] = of_csv(files[path], path)
    return Handin(form, evidence, read_file), about, files
