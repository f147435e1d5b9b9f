"""The `gradients` command: one step of gradient descent, exactly."""

from dataclasses import asdict, dataclass
from typing import Annotated

from eml import exact
from eml.commands.options import command


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the exact step."""

    file: Annotated[str, "TOML file with other numbers; an absolute path for `mlflow run`"] = ""


@command(Options, about=exact.__doc__)
def gradients(options: Options) -> None:
    from eml.exact.command import gradients

    gradients(**asdict(options))
