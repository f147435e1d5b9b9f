"""The work of the `handin` commands: from the store to a sheet's PDF and archive."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from eml.errors import UserError, printable
from eml.handin import archive
from eml.handin.checks import checks
from eml.handin.evidence import Evidence, EvidenceError, from_store, of_runs
from eml.handin.form import Form, FormError, read_form, write_form
from eml.handin.handin import Handin
from eml.handin.source import source_files
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
    files = archive.build(handin)
    source, remarks = source_files(_commits(handin))
    name = handin.sheet.file
    made = {f"{name}.pdf": files[f"{name}.pdf"]}
    files |= {f"{archive.SOURCE}/{path}": data for path, data in source.items()}
    if "conda.yaml" in source:
        files["conda.yaml"] = source["conda.yaml"]
    made[f"{name}.zip"] = archive.write(handin, files)
    _write(made, file.parent)
    if given_run_id():
        begin()
        with runs.run("handin", ABOUT, {"recipe": "handin"}):
            log.log_files(file.parent / f"{name}.pdf")
    print("".join(f"warning: {line}\n" for line in remarks), end="")
    failed = [check for check in checks(handin) if check.why]
    print("".join(f"{check}\n" for check in failed), end="")
    print("".join(f"draft: {line}\n" for line in handin.draft), end="")
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

    def read(path: str) -> bytes:
        named = Path(path)
        if named.is_absolute() or ".." in named.parts:
            raise FormError(f"{printable(path, 200)}: give a path below the folder of the form")
        try:
            return (folder / named).read_bytes()
        except OSError as error:
            raise FormError(f"{folder / named}: {error.strerror}") from error

    evidence: dict[str, Evidence] = {}
    problems: dict[str, UserError] = {}
    handin = Handin(form, evidence, read)
    others: Others = ()
    if handin.trainings:
        others = [*open_others(form.stores, folder), *open_others(names_in(stores))]
        open_to_read(others)
    for exercise in handin.exercises:
        for each in exercise.trainings:
            where = f'exercise "{exercise.number}", {each.recipe}'
            try:
                given = form.answers[exercise.number].runs[each.recipe]
                evidence[each.recipe], left_out = from_store(each, given, where, others)
                print("".join(f"{each.recipe}: {line}\n" for line in left_out), end="")
            except UserError as error:
                problems[each.recipe] = EvidenceError(f"{each.recipe}: {error}")
    return handin, problems


def _commits(handin: Handin) -> set[str]:
    commits = {run.get("git_commit") for _, run in handin.runs}
    return {commit for commit in commits if isinstance(commit, str)} - {"unknown"}


def check(file: Path, archives: Sequence[Path], stores: str) -> None:
    """Print the rules of the sheet, passed or failed; of archives a line for each.

    Exits with code 1 if a rule is broken.
    """
    if archives:
        lines = [line for path in archives for line in _check_archive(path)]
        print("".join(f"{line}\n" for line in lines), end="")
        if lines:
            sys.exit(1)
        return
    handin, problems = load(read_form(file), file.parent, stores)
    rules = checks(handin, problems)
    print("\n".join(map(str, rules)))
    if failed := sum(bool(rule.why) for rule in rules):
        print(f"rules that are not met: {failed} of {len(rules)}", file=sys.stderr)
        sys.exit(1)
    print(f"all {len(rules)} rules are met")


def _check_archive(path: Path) -> list[str]:
    """Print the archive's line; return the rules that it breaks and the differences in it."""
    try:
        opened = archive.read(_read(path))
        rules = checks(opened.handin)
        differences = list(archive.differences(opened))
    except UserError as error:
        print(f"{path.name}: not verified")
        return [f"{path.name}: {error.shown()}"]
    failed = Counter(rule.part for rule in rules if rule.why)
    parts = [
        f"{part} {f'{failed[part]} failed' if failed[part] else 'passed'}"
        for part in dict.fromkeys(rule.part for rule in rules)
    ]
    verified = f"{len(differences)} differences" if differences else "verified"
    names = ", ".join(opened.handin.form.names)
    print(f"{path.name}: {names}: {verified}; {'; '.join(parts)}")
    broken = [str(rule) for rule in rules if rule.why]
    return [f"{path.name}: {line}" for line in [*broken, *differences]]


def verify(path: Path, stores: str) -> None:
    """Print each difference between an archive and what its data, and the stores, give.

    Exits with code 1 if there is one.
    """
    opened = archive.read(_read(path))
    differences = list(archive.differences(opened))
    if not archive.is_of_this_version(opened):
        print("warning: made with another version of eml, so figures and PDF are not compared")
    differences += _differences_from_stores(opened, open_others(names_in(stores)))
    print("".join(f"{line}\n" for line in differences), end="")
    if differences:
        print(f"differences: {len(differences)}", file=sys.stderr)
        sys.exit(1)
    count = len(opened.manifest["numbers"])
    print(f"{path.name}: all {len(opened.files)} files and {count} numbers are as the data say")


def _differences_from_stores(opened: archive.Archive, others: Others) -> list[str]:
    """The runs that the stores lack, and the numbers for which they have other values."""
    if not others and not is_there():
        print("warning: there is no store here, so only the archive's own data are compared")
        return []
    open_to_read(others)
    evidence: dict[str, Evidence] = {}
    lines: list[str] = []
    for recipe, of_archive in opened.handin.evidence.items():
        of_store, missing = of_runs(of_archive.run_ids, recipe, others)
        if of_store and not missing:
            evidence[recipe] = of_store
        elif of_store:
            lines += [f"{recipe}: run {run_id} is not in the store" for run_id in missing]
        else:
            print(f"warning: the store here has no run of {recipe}, so it is not compared")
    handin = Handin(opened.handin.form, evidence, opened.handin.read)
    return [*lines, *archive.other_numbers(opened, handin, "the store gives")]


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
