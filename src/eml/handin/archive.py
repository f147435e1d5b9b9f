"""The zip beside the PDF: made, read (anyone may have made it), and compared with its own data."""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from eml.errors import UserError, printable
from eml.handin.content import typeset
from eml.handin.evidence import OWN_CODE, of_csv, own_path
from eml.handin.form import FORM, handin_command, parse_form, write_files
from eml.handin.handin import Handin, checks, load
from eml.handin.numbers import Number
from eml.handin.source import source, versions
from eml.machine import given_run_id
from eml.models.own_code import sha256_of
from eml.tracking import log, reap, runs
from eml.tracking.find import Others
from eml.tracking.history import METRICS

MANIFEST = "manifest.json"
LARGEST = 50_000_000  # bytes of an archive's member
MOST_MEMBERS = 5_000
# Of file managers, beside hidden files.
JUNK = re.compile(r"(?i)(^|/)(\.|__MACOSX/|(eh)?thumbs\.db$|desktop\.ini$)")
SAME = 1e-9  # relative difference of a number that other versions of NumPy may cause


@dataclass(frozen=True)
class Archive:
    """The content of a zip; numbers and sha256 as its manifest has them."""

    handin: Handin
    files: dict[str, bytes]  # by path
    numbers: dict[str, Number]  # by name
    sha256: dict[str, str]  # of the files
    is_of_this_version: bool  # the versions here made figures and PDF, so their bytes are equal


def make(form: Path, stores: str = "") -> None:
    """Make the PDF and the archive beside the form, and say what the sheet still asks for.

    Started by `mlflow run`, also logs the PDF. Raises UserError before anything is written.
    stores: of others, read besides those that the form names.
    """
    if given_run_id():
        reap.begin()
    handin = load(form, stores)
    for problem in handin.problems.values():
        raise problem
    files = build(handin)
    name, folder = handin.form.sheet.file, form.parent
    pdf, commit = f"{name}.pdf", handin.code["commit"]
    files |= source()
    write_files({pdf: files[pdf], f"{name}.zip": write(handin, files)}, folder)
    if given_run_id():
        about = {"recipe": "handin"}
        with runs.run("handin", "The hand-in of a sheet.", about), TemporaryDirectory() as logged:
            write_files({pdf: files[pdf]}, Path(logged))
            log.log_files(Path(logged))
    commits = {str(run.get("git_commit"))[:9] for _, run in handin.runs}
    if commits != {commit[:9]}:
        print(f"warning: the runs' commit is {', '.join(commits)}, the source's {commit[:9]}")
    print(f"made {folder / name}.pdf and {folder / name}.zip")
    if failed := sum(bool(check.why) for check in checks(handin)):
        command = handin_command("check", form, stores)
        print(f"rules of the sheet that are not met yet: {failed}; {command} lists them")


def build(handin: Handin) -> dict[str, bytes]:
    """Make the files that follow from the hand-in: PDF, form, figures and histories, by path."""
    files = typeset(handin) | {f"form/{FORM}": handin.form.content}
    files |= {f"form/{path}": data for path, data in handin.files.items()} | handin.own_code
    return files | {f"histories/{name}.csv": one.csv for name, one in handin.evidence.items()}


def write(handin: Handin, files: Mapping[str, bytes]) -> bytes:
    """Return the zip with these files and their manifest."""
    manifest = {
        "sheet": handin.form.sheet.name,
        "versions": versions(),
        "code": handin.code,
        "numbers": {name: number._asdict() for name, number in handin.numbers.items()},
        "sha256": {path: sha256_of(data) for path, data in files.items()},
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    buffer, day = io.BytesIO(), handin.form.date
    # Not compressed, because compression differs between machines.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in sorted({**files, MANIFEST: text.encode()}.items()):
            member = zipfile.ZipInfo(path, (day.year, day.month, day.day, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return buffer.getvalue()


def read(data: bytes) -> Archive:
    """Read the archive in these bytes. Raises UserError for anything that eml has not made."""
    files = _unzip(data)

    def member(path: str) -> bytes:
        if path not in files:
            raise UserError(f"the archive lacks {printable(path, 100)}")
        return files[path]

    try:
        manifest = json.loads(member(MANIFEST), parse_int=float)
        code = dict(manifest.get("code", {}))
        digests = {path: str(digest) for path, digest in manifest["sha256"].items()}
        numbers = {
            name: Number(number["shown"], float(number["value"]), tuple(number["runs"]))
            for name, number in manifest["numbers"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{MANIFEST} is damaged") from error
    form = parse_form(member(f"form/{FORM}"), FORM)
    handin = Handin(form, {}, lambda path: member(f"form/{path}"), code)
    for assignment in handin.assignments:
        path = f"histories/{assignment.recipe}.csv"
        handin.evidence[assignment.recipe] = of_csv(member(path), assignment.recipe, path)
    handin.own_code = {k: data for k, data in files.items() if k.startswith(OWN_CODE)}
    kept = {path: data for path, data in files.items() if path in digests or not JUNK.search(path)}
    return Archive(handin, kept, numbers, digests, manifest.get("versions") == versions())


def _unzip(data: bytes) -> dict[str, bytes]:
    """Return the files by path, as if the folder of the manifest were the top."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            largest = max((info.file_size for info in members), default=0)
            if len(members) > MOST_MEMBERS or largest > LARGEST:
                raise UserError("the archive is too large")
            files = {info.filename: archive.read(info) for info in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise UserError(f"this is no readable zip: {error}") from error
    folders = [path.removesuffix(MANIFEST) for path in files if Path(path).name == MANIFEST]
    top = min(folders, key=len, default="")
    return {path.removeprefix(top): content for path, content in files.items()}


def differences(archive: Archive, others: Others = ()) -> Iterator[str]:
    """Yield the differences between an archive's files, its manifest, and its own data.

    Builds the PDF again if it is of this version. Raises UserError if that is impossible. others:
    stores of others, whose runs are compared, too, with those of the store here.
    """
    files, made = archive.files, build(archive.handin) if archive.is_of_this_version else {}
    pdf = f"{archive.handin.form.sheet.file}.pdf"
    for path in sorted({pdf, *archive.sha256, *made} - files.keys()):
        yield f"{printable(path, 200)} is missing"
    for path in sorted(files.keys() - {MANIFEST}):
        if sha256_of(files[path]) != archive.sha256.get(path):
            yield f"{printable(path, 200)} is changed or new: {MANIFEST} has another SHA-256"
    for path in sorted({own_path(values) for _, values in archive.handin.runs} - {""}):
        if not sha256_of(files.get(path, b"")).startswith(path.split("/")[1]):
            yield f"{printable(path, 200)} is not the code that was trained"
    yield from other_numbers(archive, archive.handin, "the histories give")
    for path, data in made.items():
        if files.get(path, data) != data:
            yield f"{path} is not what the data in the archive give"
    if others:
        yield from other_runs(archive, others)


def other_numbers(archive: Archive, handin: Handin, origin: str) -> Iterator[str]:
    """Yield the numbers in an archive's manifest that the recipes of `handin` do not give.

    Leaves out the numbers that only other versions of eml know, and how these print a number.
    """
    for name, theirs in archive.numbers.items():
        is_known = archive.is_of_this_version or name in archive.handin.numbers
        number = handin.numbers.get(name)
        if number is None and is_known and name.partition(".")[0] in handin.evidence:
            yield f"{printable(name, 100)} in {MANIFEST}: {origin} no such number"
        elif number and not (
            math.isclose(theirs.value, number.value, rel_tol=SAME)
            and theirs.runs == number.runs
            and (theirs.shown == number.shown or not archive.is_of_this_version)
        ):
            runs = ", ".join(number.runs)
            yield f"{name} in {MANIFEST}: {origin} {number.shown}, of runs {runs}"


def other_runs(archive: Archive, others: Others) -> Iterator[str]:
    """Yield the numbers and the runs of which the stores have other values.

    Prints a warning where they lack what the archive has.
    """
    theirs = archive.handin
    ids = {name: [run["run_id"] for run in one.values] for name, one in theirs.evidence.items()}
    handin = Handin(theirs.form, {}, theirs.read, theirs.code)
    handin.gather(ids, others)
    for problem in handin.problems.values():
        print(f"warning: not compared with the stores: {problem.shown()}")
    yield from other_numbers(archive, handin, "the stores give")
    for recipe, evidence in handin.evidence.items():
        points = {training.run_id: training.points for training in evidence.trainings}
        for training in theirs.evidence[recipe].trainings:
            if not _same_points(training.points, points.get(training.run_id, {})):
                yield f"histories/{recipe}.csv: the stores give other values of {training.run_id}"


def _same_points(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Whether two trainings have the same values of the metrics that both have."""
    names = [name for name in ("epoch", *METRICS) if name in one and name in other]
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in names)
