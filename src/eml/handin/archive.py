"""The zip beside the PDF: made, read (anyone may have made it), and compared with its own data."""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eml.errors import UserError, printable
from eml.handin.content import compose
from eml.handin.evidence import Evidence, of_csv, of_runs
from eml.handin.form import FORM, parse_form
from eml.handin.handin import Handin
from eml.handin.numbers import Number
from eml.handin.typesetting import typeset
from eml.tracking.store import is_there, open_to_read
from eml.tracking.stores import names_in, open_others

MANIFEST = "manifest.json"
PACKAGE = Path(__file__).parents[1]
# Packages whose version decides the bytes of figures and PDF, besides eml's own source.
DECIDING = ("matplotlib", "numpy", "pandas", "typst")
LARGEST = 50_000_000  # bytes of an archive's member
MOST_MEMBERS = 5_000
SAME = 1e-9  # relative difference of a number that other versions of NumPy may cause


@dataclass(frozen=True)
class Archive:
    """The content of a zip."""

    handin: Handin
    manifest: dict[str, Any]
    files: dict[str, bytes]  # by path

    @property
    def is_of_this_version(self) -> bool:
        """Whether the versions here made figures and PDF, so that their bytes are equal."""
        return bool(self.manifest.get("versions") == versions())


def build(handin: Handin) -> dict[str, bytes]:
    """Make the files that follow from the hand-in: PDF, form, figures and histories, by path."""
    content = compose(handin)
    pdf = typeset(content.document, content.figures | content.images, handin.form.date)
    files = {f"{handin.sheet.file}.pdf": pdf, f"form/{FORM}": handin.form.content}
    files |= {f"form/{path}": data for path, data in handin.files.items()} | content.figures
    return files | {f"histories/{name}.csv": of.csv for name, of in handin.evidence.items()}


def versions() -> dict[str, str]:
    """Return the versions of the packages in DECIDING, and the digest of eml's source."""
    content = b"".join(path.encode() + data for path, data in sorted(package().items()))
    digest = hashlib.sha256(content).hexdigest()[:12]
    return {"eml": digest} | {name: version(name) for name in DECIDING}


def package() -> dict[str, bytes]:
    """Read the files of this package, by their paths in a checkout."""
    return {
        f"src/eml/{file.relative_to(PACKAGE).as_posix()}": file.read_bytes()
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def write(handin: Handin, files: Mapping[str, bytes]) -> bytes:
    """Return the zip with these files and their manifest, after build().

    Not compressed, because compression differs between machines.
    """
    manifest = {
        "sheet": handin.sheet.name,
        "draft": handin.draft,
        "versions": versions(),
        "numbers": {name: number._asdict() for name, number in handin.numbers.items()},
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
    """Read the archive in these bytes; nothing is written to the disk.

    Raises UserError for anything that eml has not made.
    """
    files = _unzip(data)

    def member(path: str) -> bytes:
        if path not in files:
            raise UserError(f"the archive lacks {printable(path, 100)}")
        return files[path]

    try:
        manifest = json.loads(member(MANIFEST), parse_int=float)
        if not all(isinstance(manifest[key], dict) for key in ("numbers", "sha256")):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{MANIFEST} is damaged") from error
    evidence: dict[str, Evidence] = {}
    form = parse_form(member(f"form/{FORM}"), FORM)
    handin = Handin(form, evidence, lambda path: member(f"form/{path}"))
    for assignment in handin.assignments:
        path = f"histories/{assignment.recipe}.csv"
        evidence[assignment.recipe] = of_csv(member(path), assignment.recipe, path)
    return Archive(handin, manifest, files)


def _unzip(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            largest = max((info.file_size for info in members), default=0)
            if len(members) > MOST_MEMBERS or largest > LARGEST:
                raise UserError("the archive is too large")
            return {info.filename: archive.read(info) for info in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise UserError(f"this is no readable zip: {error}") from error


def differences(archive: Archive) -> Iterator[str]:
    """Yield the differences between an archive's files, its manifest, and its own data.

    Builds the PDF again if it is of this version. Raises UserError if that is impossible.
    """
    files, listed = archive.files, archive.manifest["sha256"]
    for path in sorted(listed.keys() | files.keys() - {MANIFEST}):
        if path not in files:
            yield f"{printable(path, 200)} is missing"
        elif path not in listed:
            yield f"{printable(path, 200)} is not in {MANIFEST}"
        elif hashlib.sha256(files[path]).hexdigest() != listed[path]:
            yield f"{printable(path, 200)} was changed: its SHA-256 is not that of {MANIFEST}"
    yield from other_numbers(archive, archive.handin, "the histories give")
    for path, data in build(archive.handin).items() if archive.is_of_this_version else ():
        if files.get(path, data) != data:
            yield f"{path} is not what the data in the archive give"


def other_numbers(archive: Archive, handin: Handin, origin: str) -> Iterator[str]:
    """Yield the numbers in an archive's manifest that the recipes of `handin` do not give."""
    for name, entry in archive.manifest["numbers"].items():
        number = handin.numbers.get(name)
        if number and not _is(number, entry):
            runs = ", ".join(number.runs)
            yield f"{name} in {MANIFEST}: {origin} {number.shown}, of runs {runs}"
        elif not number and name.partition(".")[0] in handin.evidence:
            yield f"{printable(name, 100)} in {MANIFEST}: {origin} no such number"


def differences_from_stores(archive: Archive, stores: str) -> Iterator[str]:
    """Yield the runs that the stores lack, and the numbers for which they have other values.

    Prints a warning where there is nothing to compare with.
    """
    others = open_others(names_in(stores))
    if not others and not is_there():
        print("warning: there is no store here, so only the archive's own data are compared")
        return
    open_to_read(others)
    evidence: dict[str, Evidence] = {}
    for recipe, theirs in archive.handin.evidence.items():
        ours, missing = of_runs([values["run_id"] for values in theirs.values], recipe, others)
        if ours is None:
            print(f"warning: the store here has no run of {recipe}, so it is not compared")
        elif missing:
            yield from (f"{recipe}: run {run_id} is not in the store" for run_id in missing)
        else:
            evidence[recipe] = ours
    handin = Handin(archive.handin.form, evidence, archive.handin.read)
    yield from other_numbers(archive, handin, "the store gives")


def _is(number: Number, entry: object) -> bool:
    """Whether an entry of a manifest is this number, of the same runs."""
    if not isinstance(entry, dict) or not isinstance(value := entry.get("value"), int | float):
        return False
    is_close = math.isclose(value, number.value, rel_tol=SAME)
    return is_close and (entry.get("shown"), entry.get("runs")) == (number.shown, [*number.runs])
