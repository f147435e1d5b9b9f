"""The `data` command: fetches the datasets."""

from pathlib import Path

import click

from eml.data.specs import SPECS


@click.command()
@click.argument("dataset", type=click.Choice([*SPECS, "all"]), default="all")
@click.option(
    "--torchvision_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="an existing torchvision folder to look in first",
)
def data(dataset: str, torchvision_dir: Path | None) -> None:
    """Fetch and verify DATASET (all by default), and print the path of its file."""
    from eml.data.cache import cache_file, fetch

    for name in SPECS if dataset == "all" else [dataset]:
        arrays = fetch(name, torchvision_dir)
        train, test = len(arrays["train_labels"]), len(arrays["test_labels"])
        print(f"{SPECS[name].title}: {train} + {test} images, SHA-256 verified: {cache_file(name)}")
