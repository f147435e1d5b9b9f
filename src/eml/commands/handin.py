"""The `handin` commands: from the store to the PDF and the archive that a sheet asks for."""

from pathlib import Path

import click

from eml.commands.options import options_of
from eml.handin.options import FormOptions, StoresOptions


@click.group()
def handin() -> None:
    """Make the hand-in of a sheet from the store: one PDF, and a zip beside it.

    init writes the form, handin.toml, to be filled in. check says what the sheet still asks for.
    build makes the PDF and the zip. numbers lists the numbers that a text may name. verify works
    out every number and figure of a zip again.
    """


@handin.command(params=options_of(FormOptions))
@click.argument("sheet")
def init(sheet: str, file: Path) -> None:
    """Write the form of SHEET, ex3-2025 say; or add to an existing form what it lacks."""
    from eml.handin.commands import init

    init(sheet, file)


@handin.command(params=options_of(FormOptions, StoresOptions))
def build(file: Path, stores: str) -> None:
    """Make the PDF and the zip beside the form. A draft if trainings are too short."""
    from eml.handin.commands import build

    build(file, stores)


@handin.command(params=options_of(FormOptions, StoresOptions))
@click.argument("archives", type=Path, nargs=-1, metavar="[ZIP]...")
def check(archives: tuple[Path, ...], file: Path, stores: str) -> None:
    """Say of each rule of the sheet whether it is met; of ZIPs in a table. Exit code 1 if not."""
    from eml.handin.commands import check

    check(file, archives, stores)


@handin.command(params=options_of(StoresOptions))
@click.argument("path", type=Path, metavar="ZIP")
def verify(path: Path, stores: str) -> None:
    """Work out all numbers, figures and the PDF of ZIP again. Exit code 1 if one differs."""
    from eml.handin.commands import verify

    verify(path, stores)


@handin.command(params=options_of(FormOptions, StoresOptions))
def numbers(file: Path, stores: str) -> None:
    """List the numbers that a text of the form may name, as {{mlp_numpy.best_epoch}}."""
    from eml.handin.commands import numbers

    numbers(file, stores)
