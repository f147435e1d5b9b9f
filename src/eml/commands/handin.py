"""The `handin` commands: from the store to the PDF and the archive that a sheet asks for."""

import sys
from pathlib import Path

import click

from eml.config import STORES
from eml.errors import UserError

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

    if archives:
        if file != Path("handin.toml"):
            raise UserError("file has no effect with a ZIP: leave it out")
        from eml.handin.marking import check_archives

        sys.exit(1 if check_archives(archives, stores) else 0)
    handin = load(file, stores)
    rules = checks(handin)
    print("\n".join(map(str, rules)))
    if failed := sum(bool(rule.why) for rule in rules):
        print(f"rules that are not met: {failed} of {len(rules)}", file=sys.stderr)
        sys.exit(1)
    build(handin)  # raises UserError for a letter or an image that the PDF cannot hold
    print(f"all {len(rules)} rules are met")


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
