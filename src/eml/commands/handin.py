"""The `handin` commands: from the store to the PDF and the archive that a sheet asks for."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eml.analysis.labels import counted
from eml.config import STORES
from eml.errors import UserError, printable

if TYPE_CHECKING:
    from eml.tracking.find import Others

# What takes seconds to import is imported by the command that needs it.

in_file = click.option(
    "--file", type=Path, default="handin.toml", show_default=True, help="the form; PDF beside it"
)
with_stores = click.option("--stores", default="", show_default=True, help=STORES)


@click.group()
def handin() -> None:
    """Make the hand-in of a sheet from the store: one PDF, and a zip beside it.

    init writes the form, handin.toml, to be filled in. check says what the sheet still asks for,
    of a zip too. build makes the PDF and the zip. numbers lists the numbers that a text may name.
    """


@handin.command()
@in_file
@click.argument("sheet")
def init(sheet: str, file: Path) -> None:
    """Write the blank form of SHEET, ex3-2025 say."""
    from eml.handin.form import handin_command, write_form

    write_form(file, sheet)
    print(f"wrote {file}: fill it in, then {handin_command('check', file)}")


@handin.command()
@in_file
@with_stores
def build(file: Path, stores: str) -> None:
    """Make the PDF and the zip beside the form. A draft if trainings are too short."""
    from eml.handin.archive import make

    make(file, stores)


@handin.command()
@in_file
@with_stores
@click.argument("archives", type=Path, nargs=-1, metavar="[ZIP]...")
def check(archives: tuple[Path, ...], file: Path, stores: str) -> None:
    """Say of each rule of the sheet whether it is met. Exit code 1 if one is not.

    ZIP: check this archive in place of the form, and work out its numbers, figures and PDF again:
    from its own data, and with --stores from these stores and the one here.
    """
    from eml.handin.archive import build
    from eml.handin.handin import checks, load
    from eml.tracking.find import names_in, open_others

    if archives:
        if file != Path("handin.toml"):
            raise UserError("file has no effect with a ZIP: leave it out")
        others = open_others(names_in(stores))  # once for all archives: a file is copied to be read
        lines = [line for path in archives for line in _check_archive(path, others)]
        print("".join(f"{line}\n" for line in lines), end="")
        sys.exit(1 if lines else 0)
    handin = load(file, stores)
    rules = checks(handin)
    print("\n".join(map(str, rules)))
    if failed := sum(bool(rule.why) for rule in rules):
        print(f"rules that are not met: {failed} of {len(rules)}", file=sys.stderr)
        sys.exit(1)
    build(handin)  # raises UserError for a letter or an image that the PDF cannot hold
    print(f"all {len(rules)} rules are met")


def _check_archive(path: Path, others: "Others") -> list[str]:
    """Print the archive's line; return the rules that it breaks and the differences in it."""
    from eml.handin import archive
    from eml.handin.form import read_file
    from eml.handin.handin import checks

    try:
        opened = archive.read(read_file(path))
        rules, differences = checks(opened.handin), list(archive.differences(opened, others))
    except UserError as error:
        print(f"{path.name}: not verified")
        return [f"{path.name}: {error.shown()}"]
    form = opened.handin.form
    passed = "passed" if f"{form.sheet.file}.pdf" in opened.files else "lacks its PDF"
    parts = dict.fromkeys((rule.part for rule in rules), passed)
    failed = Counter(rule.part for rule in rules if rule.why)
    parts |= {part: f"{count} failed" for part, count in failed.items()}
    verified = "verified" if opened.is_of_this_version else "numbers verified, of another version"
    verified = counted(len(differences), "difference") if differences else verified
    about = "; ".join(f"{part} {result}" for part, result in parts.items())
    print(f"{path.name}: {printable(', '.join(form.names))}: {verified}; {about}")
    broken = [str(rule) for rule in rules if rule.why]
    return [f"{path.name}: {line}" for line in [*broken, *differences]]


@handin.command()
@in_file
@with_stores
def numbers(file: Path, stores: str) -> None:
    """List the numbers that a text of the form may name, as {{mlp_numpy.best_epoch}}."""
    from eml.handin.handin import load

    handin = load(file, stores)
    for problem in handin.problems.values():
        print(problem.shown(), file=sys.stderr)
    for name, number in handin.numbers.items():
        print(f"{{{{{name}}}}}  {number.shown}")
