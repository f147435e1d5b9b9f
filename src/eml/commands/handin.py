"""The `handin` commands: from the store to the PDF and the archive that a sheet asks for."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from eml.analysis.tables import markdown
from eml.errors import UserError
from eml.handin import archive, verification
from eml.handin.checks import Check, checks
from eml.handin.content import compose
from eml.handin.evidence import Evidence, EvidenceError, from_store
from eml.handin.form import Form, FormError, read_form, write_form
from eml.handin.handin import Handin
from eml.handin.source import source_files
from eml.handin.typesetting import typeset
from eml.text import printable
from eml.tracking import log, runs
from eml.tracking.mlflow_run import given_run_id
from eml.tracking.reap import begin
from eml.tracking.store import is_there, open_to_read
from eml.tracking.stores import Others, names_in, open_others

ABOUT = "The hand-in of a sheet: the PDF, and the archive beside it."


def init(sheet: str, file: Path) -> None:
    """Write the form of a sheet, or complete an existing one."""
    is_new = write_form(file, sheet)
    print(f"{'wrote' if is_new else 'completed'} {file}: fill it in, then `eml handin check`")


def build(file: Path, stores: str = "") -> None:
    """Make the PDF and the archive beside the form, and say what the sheet still asks for.

    Started by `mlflow run`, also logs them as artifacts. Raises UserError before anything is
    written.
    """
    handin, problems = load(read_form(file), file.parent, stores)
    for problem in problems.values():
        raise problem
    content = compose(handin)
    pdf = typeset(content.data, content.figures | content.images, handin.form.date)
    source, remarks = source_files(_commits(handin))
    files = archive.members(handin, content, pdf)
    files |= {f"{archive.SOURCE}/{path}": data for path, data in source.items()}
    if "conda.yaml" in source:
        files["conda.yaml"] = source["conda.yaml"]
    about = archive.manifest(handin, files)
    made = {
        f"{handin.sheet.file}.pdf": pdf,
        f"{handin.sheet.file}.zip": archive.write(files, about, handin.form.date),
    }
    _write(made, file.parent)
    if given_run_id():
        begin()
        with runs.run("handin", ABOUT, {"recipe": "handin"}):
            log.log_files(file.parent / next(iter(made)))
    for line in [*remarks, *content.warnings]:
        print(f"mind: {line}")
    failed = [check for check in checks(handin) if check.why]
    print("".join(f"{check}\n" for check in failed), end="")
    for line in handin.draft:
        print(f"draft: {line}")
    print(f"made {' and '.join(str(file.parent / name) for name in made)}")
    if failed:
        print(f"rules of the sheet that are not met yet: {len(failed)}")


def _write(made: dict[str, bytes], folder: Path) -> None:
    """Write all files, or none."""
    try:
        for name, data in made.items():
            (folder / f".{name}.new").write_bytes(data)
        for name in made:
            (folder / f".{name}.new").replace(folder / name)
    except OSError as error:
        raise UserError(f"{folder} cannot be written to: {error.strerror}") from error


def load(form: Form, folder: Path, stores: str = "") -> tuple[Handin, dict[str, UserError]]:
    """The hand-in of a form, from the store; by recipe why its runs cannot be used.

    stores: those of others, read besides those that the form names.
    """
    evidence: dict[str, Evidence] = {}
    problems: dict[str, UserError] = {}
    trainings = [(exercise, each) for exercise in form.handed_in for each in exercise.trainings]
    others: Others = ()
    if trainings:
        others = [*open_others(form.stores, folder), *open_others(names_in(stores))]
        open_to_read(others)
    for exercise, each in trainings:
        where = f'exercise "{exercise.number}", {each.recipe}'
        try:
            given = form.answers[exercise.number].runs[each.recipe]
            evidence[each.recipe], left_out = from_store(each, given, where, others)
            print("".join(f"{each.recipe}: {line}\n" for line in left_out), end="")
        except UserError as error:
            problems[each.recipe] = EvidenceError(f"{each.recipe}: {error}")

    def read(path: str) -> bytes:
        named = Path(path)
        if named.is_absolute() or ".." in named.parts:
            raise FormError(f"{printable(path, 200)}: give a path below the folder of the form")
        try:
            return (folder / named).read_bytes()
        except OSError as error:
            raise FormError(f"{folder / named}: {error.strerror}") from error

    return Handin(form, evidence, read), problems


def _commits(handin: Handin) -> set[str]:
    found: set[str] = set()
    for evidence in handin.evidence.values():
        for frame in (evidence.history, evidence.tried):
            found |= set(frame.get("git_commit", pd.Series(dtype=str)).dropna()) - {"unknown"}
    return found


def check(file: Path, archives: Sequence[Path], stores: str) -> None:
    """Print the rules of the sheet, passed or failed; of archives a table, a row for each.

    Exits with code 1 if a rule is broken.
    """
    if archives:
        _check_archives(archives)
        return
    handin, problems = load(read_form(file), file.parent, stores)
    found = checks(handin, problems)
    print("\n".join(map(str, found)))
    if failed := sum(bool(each.why) for each in found):
        print(f"rules that are not met: {failed} of {len(found)}", file=sys.stderr)
        sys.exit(1)
    print(f"all {len(found)} rules are met")


def _check_archives(archives: Sequence[Path]) -> None:
    rows, lines = [], []
    for path in archives:
        try:
            handin, about, files = archive.read(_read(path))
            found = checks(handin)
            differences = list(verification.of_files(handin, about, files))
        except UserError as error:
            rows.append({"archive": path.name, "names": "", "verified": error.shown()})
            lines.append(f"{path.name}: {error.shown()}")
            continue
        rows.append(_row(path, handin, found, differences))
        lines += [f"{path.name}: {each}" for each in found if each.why]
        lines += [f"{path.name}: {line}" for line in differences]
    print(markdown(pd.DataFrame(rows).fillna("")))
    print("".join(f"{line}\n" for line in lines), end="")
    if lines:
        sys.exit(1)


def _row(
    path: Path, handin: Handin, found: Sequence[Check], differences: Sequence[str]
) -> dict[str, str]:
    failed = Counter(each.of for each in found if each.why)
    verified = f"no: {len(differences)}" if differences else "yes"
    row = {"archive": path.name, "names": ", ".join(handin.form.names), "verified": verified}
    for of in dict.fromkeys(each.of for each in found):
        row[of] = f"{failed[of]} failed" if failed[of] else "passed"
    return row


def verify(path: Path, stores: str) -> None:
    """Print each difference between an archive and what its data, and the stores, give.

    Exits with code 1 if there is one.
    """
    handin, about, files = archive.read(_read(path))
    differences = list(verification.of_files(handin, about, files))
    if line := verification.unverified(about):
        print(f"mind: {line}")
    others = open_others(names_in(stores))
    if others or is_there():
        open_to_read(others)
        from_the_store, found = verification.of_store(handin, others)
        if found:
            differences += from_the_store
        else:
            print("mind: the store here holds none of these runs, so it is not compared")
    else:
        print("mind: there is no store here, so only the archive's own data are compared")
    print("".join(f"{line}\n" for line in differences), end="")
    if differences:
        print(f"differences: {len(differences)}", file=sys.stderr)
        sys.exit(1)
    numbers = len(handin.numbers.printed)
    print(f"{path.name}: all {len(files)} files and {numbers} numbers are as the data say")


def numbers(file: Path, stores: str) -> None:
    """Print the name and value of every number that a text may refer to."""
    handin, problems = load(read_form(file), file.parent, stores)
    for problem in problems.values():
        print(problem.shown(), file=sys.stderr)
    for name, number in handin.numbers.all.items():
        print(f"{{{{{name}}}}}  {number.shown}  ({number.metric})")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise archive.ArchiveError(f"{path}: {error.strerror}") from error
