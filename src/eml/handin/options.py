"""The options of the hand-in's commands; imports nothing that takes time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from eml.config import STORES
from eml.recipes.options import DeviceOptions, SharedOptions

FORM = "handin.toml"


@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """The option that names the hand-in."""

    file: Annotated[Path, "the form; PDF and zip are made beside it"] = Path(FORM)


@dataclass(frozen=True, kw_only=True)
class StoresOptions:
    """Which stores beside the one here."""

    stores: Annotated[str, STORES] = ""


@dataclass(frozen=True, kw_only=True)
class SheetOptions:
    """Options of a whole sheet. Fewer epochs, or a subset, make a draft."""

    folder: Annotated[Path, "folder in which the hand-in gets a folder of its own"] = Path()
    epochs: Annotated[int, "passes over the training images"] = SharedOptions.epochs
    subset: Annotated[int, "training images, class-balanced; 0: all"] = SharedOptions.subset
    device: Annotated[str, "auto, cpu or cuda"] = DeviceOptions.device
