"""The `new` command: writes a skeleton for own code, own_numpy.txt or own_torch.txt."""

import shlex
from pathlib import Path

import click

from eml.errors import UserError


@click.command()
@click.argument("framework", type=click.Choice(["numpy", "torch"]))
@click.option("--file", type=click.Path(path_type=Path), help="[default: own_FRAMEWORK.py]")
def new(framework: str, file: Path | None) -> None:
    """Write a skeleton for your own network in FRAMEWORK, to be filled in."""
    file = file or Path(f"own_{framework}.py")
    skeleton = Path(__file__).with_name(f"own_{framework}.txt").read_bytes()
    try:
        with file.open("xb") as written:  # x: refuses a file that exists
            written.write(skeleton)
    except FileExistsError:
        raise UserError(f"{file} exists and stays as it is: give another --file") from None
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from error
    name = shlex.quote(str(file))
    print(f"wrote {file}: fill it in, then `eml mlp_{framework} --code {name} --check only` checks")
    print(f"it, and `python {name}` trains one epoch without eml")
