"""The `sheet2` and `sheet3` commands: train what a sheet still lacks, then make its hand-in."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import click

from eml.commands.options import command
from eml.launchers.options import LaunchOptions
from eml.recipes.recipe import Check, Code, DeviceOptions, SharedOptions


@dataclass(frozen=True, kw_only=True)
class SheetOptions:
    """Options of a whole sheet. Fewer epochs, or a subset, make a draft."""

    folder: Annotated[Path, "folder in which the hand-in gets a folder of its own"] = Path()
    epochs: Annotated[int, "passes over the training images"] = SharedOptions.epochs
    subset: Annotated[int, "training images, class-balanced; 0: all"] = SharedOptions.subset
    code: Code = SharedOptions.code
    check: Check = SharedOptions.check


@dataclass(frozen=True, kw_only=True)
class TorchSheetOptions(DeviceOptions, SheetOptions):
    """Options of a sheet whose networks are in PyTorch."""


def _sheet_command(number: int, kind: type[SheetOptions]) -> click.Command:
    about = f"""Train all that exercise sheet {number} asks for, then make its hand-in.

    Says beforehand what is missing and how long it takes; skips what the store has. The
    PDF, the zip and the form to fill in are made in the folder ex{number}.
    """

    @command(kind, LaunchOptions, name=f"sheet{number}", about=about)
    def sheet(options: SheetOptions, launching: LaunchOptions) -> None:
        from eml.handin.train import train_sheet

        shared = asdict(options)
        train_sheet(f"sheet{number}", shared.pop("folder"), shared, launching)

    return sheet


sheet2, sheet3 = _sheet_command(2, SheetOptions), _sheet_command(3, TorchSheetOptions)
