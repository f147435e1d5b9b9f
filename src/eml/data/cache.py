"""The cache folder with the verified arrays of MNIST and CIFAR-10."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from eml.data.download import Limits
from eml.data.sources import Arrays, SourceError, sources
from eml.data.specs import SPECS
from eml.errors import UserError
from eml.text import printable

LARGEST_HEADERS = 10_000  # largest size of a cache file's headers, in bytes


class DataError(UserError):
    """No source delivers the dataset; the message has a line with the reason of each source."""

    exit_code = 1

    def shown(self) -> str:
        return "\n".join(map(printable, str(self).splitlines()))


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


def fetch(name: str, folder: Path | None = None, limits: Limits | None = None) -> Arrays:
    """The four verified arrays of a dataset, from the cache or the first source that works.

    folder: an existing torchvision folder to look in first (default: $EML_TORCHVISION_DIR).
    limits: largest duration and lowest rate of a download.

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
            return _fetch_and_keep(name, file, folder, limits or Limits())
    except (OSError, MemoryError) as error:
        raise DataError(f"{file.parent} cannot be used as cache: {_reason(error)}") from error


def _read(name: str, file: Path) -> Arrays:
    """The verified content of the cache file.

    Raises OSError if the file cannot be opened, and SourceError if its content is damaged.
    """
    shapes = SPECS[name].shapes
    if not 0 <= file.stat().st_size - sum(map(prod, shapes.values())) < LARGEST_HEADERS:
        raise SourceError("it has another size than the arrays")
    with file.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                arrays = {key: _read_array(archive, key, shape) for key, shape in shapes.items()}
        except MemoryError:  # the machine has too little memory: the file may be intact
            raise
        except Exception as error:  # damaged bytes may raise anything, also OSError
            raise SourceError(_reason(error)) from error
    _verify(name, arrays)
    return arrays


def _read_array(archive: zipfile.ZipFile, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array of a cache file written by np.savez; allocates no more than `shape` needs."""
    member = archive.getinfo(f"{key}.npy")
    if member.compress_type != zipfile.ZIP_STORED:  # a few kB could expand to gigabytes
        raise SourceError(f"{key} is compressed")
    with archive.open(member) as stream:
        np.lib.format.read_magic(stream)
        if np.lib.format.read_array_header_1_0(stream) != (shape, False, np.dtype(np.uint8)):
            raise SourceError(f"{key} has another shape or type")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


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


def _fetch_and_keep(name: str, file: Path, folder: Path | None, limits: Limits) -> Arrays:
    reasons = []
    downloads = file.parent / f"{name}.download"  # kept after a failure, to resume from
    for source in sources(name, folder, limits, SPECS[name].shapes):
        # One folder per source, so that a partial file is never completed by another source.
        work = downloads / hashlib.sha256(source.name.encode()).hexdigest()[:8]
        work.mkdir(parents=True, exist_ok=True)
        try:
            arrays = source.fetch(work)
            _verify(name, arrays)
        except Exception as error:  # a parser may raise anything for untrusted bytes
            reason = printable(f"{source.name}: {_reason(error)}")
            print(f"{SPECS[name].title} from {reason}", flush=True)
            reasons.append(f"  {reason}")
            # A refused complete file would be refused again.
            for refused in work.iterdir():
                if refused.suffix != ".part":
                    refused.unlink()
            continue
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        part.replace(file)
        shutil.rmtree(downloads)
        return arrays
    raise DataError(
        f"{SPECS[name].title} is not in the cache ({file.parent}) and no source has it:\n"
        + "\n".join(reasons)
        + f"\nTo place it by hand: put {SPECS[name].files} into a folder, and run: "
        f"eml data {name} --torchvision_dir FOLDER"
    )


def _reason(error: Exception) -> str:
    expected = isinstance(error, SourceError | OSError)
    return printable(error if expected else f"{type(error).__name__}: {error}", 300)


def _verify(name: str, arrays: Arrays) -> None:
    for key, expected in SPECS[name].sha256.items():
        array = arrays[key]
        same = array.dtype == np.uint8 and array.shape == SPECS[name].shapes[key]
        if not same or sha256(array) != expected:
            raise SourceError(f"{key.replace('_', ' ')} are not those of {SPECS[name].title}")


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
