"""The zip beside the PDF: made, read (anyone may have made it), and compared with its own data."""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from eml.errors import UserError, printable
from eml.handin.content import compose
from eml.handin.evidence import Evidence, of_csv
from eml.handin.form import FormError, parse_form
from eml.handin.handin import Handin
from eml.handin.numbers import Number
from eml.handin.options import FORM
from eml.handin.source import source_digest
from eml.handin.typesetting import typeset

MANIFEST = "manifest.json"
FORM_FOLDER, HISTORIES, SOURCE = "form", "histories", "source"
# Packages whose version decides the bytes of figures and PDF, besides eml's own source.
DECIDING = ("matplotlib", "numpy", "pandas", "typst")
LARGEST = 50_000_000  # bytes of an archive's member
MOST_MEMBERS = 5_000
SAME = 1e-9  # relative difference of a number that other versions of NumPy may cause


class ArchiveError(UserError):
    """A file is no archive of a hand-in; the message says why."""


@dataclass(frozen=True)
class Archive:
    """The content of a zip."""

    handin: Handin
    manifest: dict[str, Any]
    files: dict[str, bytes]  # by path


def build(handin: Handin) -> dict[str, bytes]:
    """The PDF, form, figures and histories by path: the files that follow from the hand-in."""
    content = compose(handin)
    pdf = typeset(content.document, content.figures | content.images, handin.form.date)
    files = {f"{handin.sheet.file}.pdf": pdf, f"{FORM_FOLDER}/{FORM}": handin.form.content}
    files |= {f"{FORM_FOLDER}/{path}": data for path, data in handin.files.items()}
    files |= content.figures
    return files | {f"{HISTORIES}/{name}.csv": of.csv for name, of in handin.evidence.items()}


def versions() -> dict[str, str]:
    """The versions of the packages in DECIDING, and the digest of eml's source."""
    return {"eml": source_digest()} | {name: version(name) for name in DECIDING}


def write(handin: Handin, files: Mapping[str, bytes]) -> bytes:
    """The zip with these files and their manifest, after build().

    Not compressed, because compression differs between machines.
    """
    manifest = {
        "sheet": handin.sheet.name,
        "draft": handin.draft,
        "versions": versions(),
        "numbers": {name: n._asdict() for name, n in handin.numbers.printed.items()},
        "sha256": {path: hashlib.sha256(data).hexdigest() for path, data in files.items()},
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    buffer, day = io.BytesIO(), handin.form.date
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in sorted({**files, MANIFEST: text.encode()}.items()):
            member = zipfile.ZipInfo(path, (day.year, day.month, day.day, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return buffer.getvalue()


def read(data: bytes) -> Archive:
    """The archive in these bytes; nothing is written to the disk.

    Raises UserError for anything that eml has not made.
    """
    files = _unzip(data)
    for path in (MANIFEST, f"{FORM_FOLDER}/{FORM}"):
        if path not in files:
            raise ArchiveError(f"it lacks {path}: `eml handin build` makes the archive")
    try:
        manifest = json.loads(files[MANIFEST], parse_int=float)
        if not all(isinstance(manifest[key], dict) for key in ("numbers", "sha256")):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArchiveError(f"{MANIFEST} is damaged") from error

    def read_file(path: str) -> bytes:
        try:
            return files[f"{FORM_FOLDER}/{path}"]
        except KeyError:
            raise FormError(f"there is no {printable(path, 100)} in the archive") from None

    evidence: dict[str, Evidence] = {}
    handin = Handin(parse_form(files[f"{FORM_FOLDER}/{FORM}"], FORM), evidence, read_file)
    for trainings in handin.trainings:
        path = f"{HISTORIES}/{trainings.recipe}.csv"
        if path not in files:
            raise ArchiveError(f"it lacks {path}")
        evidence[trainings.recipe] = of_csv(files[path], path)
    return Archive(handin, manifest, files)


def _unzip(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            largest = max((info.file_size for info in members), default=0)
            if len(members) > MOST_MEMBERS or largest > LARGEST:
                raise ArchiveError("the archive is too large")
            return {info.filename: archive.read(info) for info in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise ArchiveError(f"this is no readable zip: {error}") from error


def differences(archive: Archive) -> Iterator[str]:
    """Differences between an archive's files, its manifest, and a build from its own data.

    Raises UserError if the PDF cannot be built again.
    """
    files, listed = archive.files, archive.manifest["sha256"]
    for path in sorted(listed.keys() | files.keys() - {MANIFEST}):
        if path not in files:
            yield f"{printable(path, 200)} is missing"
        elif path not in listed:
            yield f"{printable(path, 200)} is not in {MANIFEST}"
        elif hashlib.sha256(files[path]).hexdigest() != listed[path]:
            yield f"{printable(path, 200)} was changed: its SHA-256 is not that of {MANIFEST}"
    again = build(archive.handin)
    yield from other_numbers(archive, archive.handin, "the histories give")
    if is_of_this_version(archive):
        for path, data in again.items():
            if files.get(path, data) != data:
                yield f"{path} is not what the data in the archive give"


def other_numbers(archive: Archive, handin: Handin, source: str) -> Iterator[str]:
    """The numbers in an archive's manifest that the recipes of `handin` do not give."""
    for name, entry in archive.manifest["numbers"].items():
        number = handin.numbers.all.get(name)
        if number and not _is(number, entry):
            runs = ", ".join(number.runs)
            yield f"{name} in {MANIFEST}: {source} {number.shown}, of runs {runs}"
        elif not number and name.partition(".")[0] in handin.evidence:
            yield f"{printable(name, 100)} in {MANIFEST}: {source} no such number"


def _is(number: Number, entry: object) -> bool:
    """Whether an entry of a manifest is this number, of the same runs."""
    if not isinstance(entry, dict) or not isinstance(value := entry.get("value"), int | float):
        return False
    is_close = math.isclose(value, number.value, rel_tol=SAME)
    return is_close and (entry.get("shown"), entry.get("runs")) == (number.shown, [*number.runs])


def is_of_this_version(archive: Archive) -> bool:
    """Whether figures and PDF were made with the versions here, so that their bytes are equal."""
    return archive.manifest.get("versions") == versions()
