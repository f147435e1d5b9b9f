"""The `sheet2` and `sheet3` commands: train what a sheet still lacks, then make its hand-in."""

import click

from eml.commands.options import command
from eml.handin.options import SheetOptions
from eml.launchers.options import LaunchOptions


def _sheet_command(number: int) -> click.Command:
    about = f"""Train all that exercise sheet {number} asks for, then make its hand-in.

    Says beforehand what is missing and how long it takes; skips what the store has. The
    PDF, the zip and the form to fill in are made in the folder ex{number}.
    """

    @command(SheetOptions, LaunchOptions, name=f"sheet{number}", about=about)
    def sheet(options: SheetOptions, launching: LaunchOptions) -> None:
        from eml.handin.train import sheet

        sheet(f"sheet{number}", options, launching)

    return sheet


sheet2, sheet3 = _sheet_command(2), _sheet_command(3)
